"""Whether the cells of a bench fit on its GPUs, alone and beside each other; what would fit where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING

from safeeraser.bench.estimate.costs import workload
from safeeraser.bench.estimate.memory import Workload, peak
from safeeraser.bench.estimate.sizes import Sizes, measure
from safeeraser.config import ModelOptions, UnlearnOptions, step_batch
from safeeraser.config.options import GLOBAL_BATCH
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from safeeraser.bench.devices import Gpu
    from safeeraser.bench.spec import CellSpec
    from safeeraser.data import Benchmark, Triple
    from safeeraser.objectives import Method

GIB = 2**30
CONTEXT = 0.7 * GIB
"""What CUDA keeps for a process: 0.67 GiB on an H100 (docs/benchmarks.md)."""
FRAGMENTATION = 1.07
"""Memory that the allocator holds to memory that is in use: 1.06 where the H100 was full; with room it holds more."""
LOOKED_AT = 64
"""Images whose size is read."""


@dataclass(frozen=True)
class Need:
    """What a cell takes on a GPU."""

    label: str
    """Method, or 'vanilla'."""
    bytes: float
    hints: tuple[str, ...] = ()
    """Options under which it would fit where it does not."""


def reserved(used: float) -> float:
    """Bytes that a process with ``used`` bytes of tensors takes on a GPU.

    Example:
        >>> round(reserved(10 * GIB) / GIB, 1)
        11.4
    """
    return FRAGMENTATION * used + CONTEXT


def answering(sizes: Sizes, loading: ModelOptions, batch: int, text: float, number_bytes: int) -> float:
    """Bytes of weights, keys and values, and logits while a batch is answered.

    ``text`` are the tokens of a row without its image: question and longest answer.
    """
    weights = peak(sizes, Workload(0, 0, 0, 0, 0, 0), loading.quantization, number_bytes=number_bytes).weights
    positions = batch * (sizes.image_tokens + sizes.attended_tokens + text)
    return weights + positions * sizes.layers * 2 * sizes.keys * number_bytes + batch * sizes.vocabulary * 8


def number_bytes(model: str, loading: ModelOptions) -> int:
    """Bytes of a number of the model as it is loaded; a checkpoint that does not say is taken to be float32.

    Example:
        >>> number_bytes("mini-llava", ModelOptions()), number_bytes("mini-llava", ModelOptions(dtype="bfloat16"))
        (4, 2)
    """
    from safeeraser import models

    config = models.read_config(model)
    own = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    dtype = str(own).removeprefix("torch.") if loading.dtype == "auto" else loading.dtype
    return 2 if dtype in ("float16", "bfloat16") else 4


def check_fit(specs: Sequence[CellSpec], gpus: Sequence[Gpu], parallel: int) -> None:
    """Refuse cells that do not fit on the GPUs, or not as many side by side as would be started.

    Args:
        specs: Of the cells to run.
        gpus: What they are spread over, evenly; where the memory of one is unknown nothing is checked.
        parallel: Cells side by side.

    Raises:
        UserError: If they do not fit; the message says what would.
    """
    memories = [gpu.memory for gpu in gpus if gpu.memory is not None]
    if not specs or not gpus or len(memories) < len(gpus):
        return
    smallest = min(gpus, key=lambda gpu: gpu.memory or 0)
    room = min(memories)
    needs = sorted(_needs(specs, room), key=lambda need: need.bytes, reverse=True)
    if needs[0].bytes > room:
        nothing = "no batch does, not even in 4 bit: shard it over several GPUs with 'unlearn'"
        would = "; ".join(needs[0].hints) or nothing
        raise UserError(
            f"a cell of {needs[0].label} of model {specs[0].model} takes about {needs[0].bytes / GIB:.1f} GiB, and "
            f"{smallest.title} has {room / GIB:.1f}. What would fit: {would}; or a larger GPU, or several with "
            "FSDP or ZeRO (docs/training.md). 'safeeraser plan' shows the estimate"
        )
    beside = ceil(min(parallel, len(specs)) / len(gpus))
    together = list(accumulate(need.bytes for need in needs[:beside]))
    if together[-1] > room:
        fit = sum(taken <= room for taken in together)
        raise UserError(
            f"--jobs {parallel} puts {beside} cells on one GPU, which take about {together[-1] / GIB:.1f} GiB "
            f"together, and {smallest.title} has {room / GIB:.1f}: --jobs {fit * len(gpus)} fits"
        )


def _needs(specs: Sequence[CellSpec], room: float) -> list[Need]:
    """What each cell takes; cells that differ in their seed alone take the same."""
    from safeeraser import data

    benchmark = specs[0].benchmark()
    triples = data.triples(benchmark.split("train"))
    height, width = image_sizes(benchmark)[-1]
    known: dict[str, Need] = {}
    keys = [spec.model_copy(update={"seed": 0}).model_dump_json() for spec in specs]
    for key, spec in zip(keys, specs, strict=True):
        if key not in known:
            sizes = measure(spec.model, spec.training_options().lora, height, width)
            known[key] = _need(spec, sizes, triples, benchmark.refusals, room)
    return [known[key] for key in keys]


def _need(spec: CellSpec, sizes: Sizes, triples: Sequence[Triple], refusals: Sequence[str], room: float) -> Need:
    from safeeraser.objectives import parse_method

    loading, generation, options = spec.loading_options(), spec.generation_options(), spec.training_options()
    wide = number_bytes(spec.model, loading)
    method = spec.parsed_method()
    training = Training(sizes, method or parse_method("po"), triples, refusals, wide)
    work = training.work(options)
    text = work.text - work.answer + generation.max_new_tokens
    answers = reserved(answering(sizes, loading, generation.batch_size, text, wide))
    hints = [] if answers <= room else ["a smaller --generation.batch_size"]
    if method is None:
        return Need("vanilla", answers, tuple(hints))
    if options.batch_size is None:  # the cell takes what fits
        options = replace(options, batch_size=1, accumulation=step_batch(options, fits=1).accumulation)
    trained = training.reserved(options, loading)
    if trained > room:
        hints = [*training.ways(options, loading, room), *hints]
    return Need(method.name, max(trained, answers), tuple(hints))


@dataclass(frozen=True)
class Training:
    """A training whose options may still change."""

    sizes: Sizes
    method: Method
    triples: Sequence[Triple]
    refusals: Sequence[str]
    number_bytes: int
    """Of a number that is not quantised."""

    def work(self, options: UnlearnOptions) -> Workload:
        """What goes through the model at once."""
        return workload(self.method, self.triples, self.refusals, options)

    def reserved(self, options: UnlearnOptions, loading: ModelOptions) -> float:
        """Bytes that it reserves on a GPU."""
        checkpointing = options.gradient_checkpointing
        estimate = peak(self.sizes, self.work(options), loading.quantization, checkpointing, self.number_bytes)
        return reserved(estimate.total)

    def ways(self, options: UnlearnOptions, loading: ModelOptions, room: float) -> Iterator[str]:
        """Options under which it fits, the mildest first; each with the largest batch that does."""
        for quantization in dict.fromkeys((loading.quantization, "8bit", "4bit")):
            for checkpointing in sorted({options.gradient_checkpointing, True}):
                most = options.batch_size or 1
                for batch in (most >> times for times in range(most.bit_length())):  # halved, down to 1
                    tried = replace(options, batch_size=batch, gradient_checkpointing=checkpointing, accumulation=2)
                    if self.reserved(tried, replace(loading, quantization=quantization)) <= room:
                        flags = [f"--training.batch_size {batch}"] if batch != options.batch_size else []
                        flags += ["--gradient_checkpointing true"] * (checkpointing > options.gradient_checkpointing)
                        flags += [f"--quantization {quantization}"] * (quantization != loading.quantization)
                        yield " ".join(flags)
                        break


def batch_that_fits(
    model: str, benchmark: Benchmark, method: Method, options: UnlearnOptions, loading: ModelOptions
) -> int | None:
    """Triples that fit through a model at once on the smallest visible GPU, at least 1.

    None if it does not matter (the options give a batch), or no GPU's memory is known.
    """
    from safeeraser import data
    from safeeraser.bench import devices

    memories = [gpu.memory for gpu in devices.visible(loading.device)] if options.batch_size is None else []
    known = [memory for memory in memories if memory is not None]
    if not known or len(known) < len(memories):
        return None
    sizes = measure(model, options.lora, *image_sizes(benchmark)[-1])
    triples = data.triples(benchmark.split("train"))
    training = Training(sizes, method, triples, benchmark.refusals, number_bytes(model, loading))
    most = step_batch(options, fits=options.global_batch or GLOBAL_BATCH).batch_size
    tried = (replace(options, batch_size=batch, accumulation=2) for batch in range(most, 1, -1))
    return next((one.batch_size for one in tried if training.reserved(one, loading) <= min(known)), 1)


def image_sizes(benchmark: Benchmark) -> list[tuple[int, int]]:
    """Height and width in pixels of the first train images, by area."""
    from safeeraser.data.images import ImageCache

    cache = ImageCache(benchmark, budget=0)
    sizes = [cache.get(record.image).size[::-1] for record in benchmark.split("train")[:LOOKED_AT]]
    return sorted(sizes, key=lambda size: size[0] * size[1])
