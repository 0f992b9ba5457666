"""Subcommand ``safeeraser plan``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from safeeraser.config import BenchConfig, FilePath, GenerationOptions, UnlearnOptions, step_batch
from safeeraser.core import terminal
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    import rich.table

    from safeeraser.bench.estimate import Calls, Costs, Sizes, Workload
    from safeeraser.data import Triple

GIB = 2.0**30
METHODS = str(BenchConfig.methods).split(",")
"""Of a bench, if nothing else is said."""


@dataclass
class PlanConfig:
    """Say beforehand what a run takes: parameters, steps, GPU memory, hours, answers, judge calls and their cost.

    Nothing is downloaded but configuration and processor, and no weights are loaded.

    Example:
        safeeraser plan --model llava-1.5-7b --data pictogram --method po+pd --processes 2
        safeeraser plan --model llava-1.5-13b --method kl+pd --processes 2 --protocol official --judge_price 2.5,10
        safeeraser plan --gpu a100-80gb --processes 8 --gpu_price 1.8  # hours and dollars on eight such cards
    """

    model: FilePath[str] = "llava-1.5-7b"
    """'llava-1.5-7b' or 'llava-1.5-13b' (known without network), 'mini-llava', a local folder, or a hub name."""
    data: FilePath[str] = "pictogram"
    """Built-in 'pictogram', a folder in the release layout, or hf://OWNER/NAME, a dataset on the Hugging Face hub."""
    method: str | dict[str, float] = "po+pd"
    """As for 'unlearn'."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    text_sets: FilePath[str | list[str]] = ""
    """Questions without an image that are asked as well, comma-separated: 'knowledge', 'text_orr', JSON files."""
    processes: int = 1
    """GPUs that share a step, each with the whole model."""
    gpu: str = "h100"
    """Card whose hours are estimated: a100-40gb, a100-80gb, h100, h200, l40s, a6000, rtx3090 or rtx4090."""
    throughput: FilePath[str | None] = None
    """File that 'python benchmarks/gpu.py' wrote on your card: hours follow from what it measured there."""
    gpu_price: float = 2.0
    """US dollars an hour of one GPU; assumed."""
    judge_price: str = "2.50,10.00"
    """US dollars per million tokens that an API judge reads and writes; assumed: GPT-4o's list price of 2025."""
    training: UnlearnOptions = field(default_factory=UnlearnOptions)
    """Budget and optimizer."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the models answer."""


def plan(options: PlanConfig) -> int:
    """``safeeraser plan``."""
    from safeeraser import data, objectives
    from safeeraser.bench import estimate

    prices = _prices(options.judge_price)
    if options.gpu_price < 0:
        raise UserError(f"--gpu_price {options.gpu_price}: prices cannot be negative")
    method = objectives.parse_method(options.method, options.training.preset)
    benchmark = data.load(options.data, options.limit)
    triples = data.triples(benchmark.split("train"))
    if not triples:
        raise UserError(f"data {benchmark.name!r} has no train record: unlearning needs the train split")
    texts = data.text_queries(options.text_sets)
    costs = estimate.estimate_costs(benchmark, triples, options.training, options.generation, options.processes, texts)
    by_area = estimate.image_sizes(benchmark)
    height, width = by_area[len(by_area) // 2]
    sizes = estimate.measure(options.model, options.training.lora, height, width)
    batch = step_batch(options.training, options.processes)
    spread = replace(options.training, batch_size=batch.batch_size, accumulation=batch.accumulation)
    work = estimate.workload(method, triples, benchmark.refusals, spread)
    console = terminal.console(120, highlight=False)
    for line in _lines(options, sizes, costs, work, f"{width} x {height}"):
        console.print(line)
    alone = replace(options.training, batch_size=1, accumulation=2)
    single = estimate.workload(method, triples, benchmark.refusals, alone)
    console.print(_memory_table(sizes, {1: single, batch.batch_size: work}))
    console.print(
        "rows one by one, each as long as the longest (within 1 % of what LLaVA-1.5-7B took on an H100); add 0.7 GiB "
        "for the CUDA context and 7 % for fragmentation (docs/plan.md)"
    )
    policy = estimate.passes_of(method.rows, triples, benchmark.refusals, sizes, options.training, batch.batch_size)
    shared = len(method.rows) / policy.pictures
    if shared > 1:
        checkpointing = options.training.gradient_checkpointing
        packed = estimate.peak(sizes, policy.packed(work, sizes.image_tokens), checkpointing=checkpointing)
        console.print(
            f"packed, {shared:.3g} rows per image (--pack, --group_by {options.training.group_by}): peak "
            f"{packed.total / GIB:.1f} GiB in bf16, if the model allows it, which is asked when it is loaded"
        )
    for line in _evaluation(options, costs, prices):
        console.print(line)
    for part in _hours(options, sizes, costs, triples, benchmark.refusals):
        console.print(part)
    return 0


def _lines(options: PlanConfig, sizes: Sizes, costs: Costs, work: Workload, image: str) -> Iterator[str]:
    parts = ", ".join(f"{name} {_millions(count)}" for name, count in sizes.parts.items() if count)
    yield f"model {options.model}, family {sizes.family}: {_millions(sizes.parameters)} parameters ({parts})"
    yield "; ".join(f"{part}: {name}" for part, name in sizes.names.items())
    share = sizes.trainable / (sizes.parameters + sizes.trainable)
    yield (
        f"trainable: {_millions(sizes.trainable)}, {share:.2%} of all with the adapter: LoRA r {sizes.rank} on "
        f"{sizes.lora_layers} linear layers {_millions(sizes.lora)}, projector "
        f"{_millions(sizes.projector) if sizes.projector else f'{_millions(0)} ({sizes.tuned})'}"
    )
    batch = step_batch(options.training, options.processes)
    yield (
        f"data {options.data}: {costs.triples:,} train triples; {costs.steps:,} optimizer steps of "
        f"{batch.global_batch} triples ({batch.batch_size} x {batch.accumulation} x {batch.processes} GPU)"
    )
    yield (
        f"a forward pass: {work.rows} rows of {sizes.image_tokens} image tokens (an image of the median size, {image}) "
        f"and {work.text} others (assumed: 1.4 tokens a word)"
    )


def _memory_table(sizes: Sizes, works: dict[int, Workload]) -> rich.table.Table:
    from safeeraser.bench.estimate import peak
    from safeeraser.core.table import Column, Table, console

    names = ("weights", "trained", "activations", "logits", "peak", "peak with checkpointing")
    columns = [Column("triples at once"), Column("frozen weights in"), *(Column(name, right=True) for name in names)]
    rows = []
    for batch, work in sorted(works.items(), reverse=True):
        for label, quantization in (("bf16", "none"), ("8 bit", "8bit"), ("4 bit", "4bit")):
            plain = peak(sizes, work, quantization)
            small = peak(sizes, work, quantization, checkpointing=True)
            numbers = (plain.weights, plain.trained, plain.activations, plain.logits, plain.total, small.total)
            rows.append([str(batch), label, *(f"{number / GIB:.1f}" for number in numbers)])
    return console(Table(columns, rows, "peak memory of training, GiB per GPU"))


def _hours(
    options: PlanConfig, sizes: Sizes, costs: Costs, triples: Sequence[Triple], refusals: Sequence[str]
) -> Iterator[rich.table.Table | str]:
    """Hours and dollars of the cells of a bench and of the method asked for, on one GPU and on several."""
    from safeeraser.bench import estimate
    from safeeraser.core.table import Column, Table, console
    from safeeraser.objectives import parse_method

    training, batch = options.training, step_batch(options.training, options.processes)
    checkpointing, gpus = training.gradient_checkpointing, options.processes
    rates = estimate.rates(options.gpu, options.throughput, checkpointing, batch.batch_size)
    at_once = options.generation.batch_size
    answered = rates.answering_seconds(sizes, costs.here.lengths, costs.here.answers, at_once) / 3600
    named = {"vanilla": None} | {n: parse_method(n, training.preset) for n in METHODS if n != "vanilla"}
    wanted = parse_method(options.method, training.preset)
    # a measurement's rates are of rows one by one
    counted = replace(training, pack=training.pack and not options.throughput)
    hours, shown = {"vanilla": 0.0}, costs.steps * batch.global_batch
    for name, method in (named | {wanted.name: wanted}).items():
        if method is not None:
            policy, reference = (
                estimate.passes_of(kinds, triples, refusals, sizes, counted, batch.batch_size)
                for kinds in (method.rows, method.reference_rows)
            )
            hours[name] = rates.training_seconds(sizes, shown, policy, reference, checkpointing) / 3600
    cells = [(name, trained, answered, trained + answered) for name, trained in hours.items()]
    trained, answers = sum(hours[name] for name in named), answered * len(named)
    cells.append((f"the {len(named)} of a bench", trained, answers, trained + answers))
    columns = [Column("cell"), *(Column(name, right=True) for name in ("training", "answers", "hours", "dollars"))]
    columns += [Column(f"hours on {gpus}", right=True)] if gpus > 1 else []
    table = []
    for name, *numbers in cells:
        numbers += [numbers[-1] * options.gpu_price, numbers[-1] / gpus]
        table.append([name, *(f"{n:,.1f}" for n in numbers[: len(columns) - 1])])
    yield console(Table(columns, table, f"hours on one GPU, {at_once} questions at once"))
    yield rates.title
    yield f"assumed: ${options.gpu_price:g} an hour of a GPU (--gpu_price); loading and judging are not in it"


def _evaluation(options: PlanConfig, costs: Costs, prices: tuple[float, float]) -> Iterator[str]:
    def line(name: str, calls: Calls) -> str:
        return (
            f"{name}: {calls.answers:,} answers, {calls.calls:,} judgements; with an API judge "
            f"{calls.tokens_in / 1e6:.1f}M tokens in, {calls.tokens_out / 1e6:.1f}M out: ${calls.cost(*prices):,.2f}"
        )

    yield line(f"evaluation of one model, protocol {options.generation.protocol}", costs.here)
    yield line("the paper's, on train and val, 3 answers to a forget question", costs.paper)
    yield (
        f"assumed: ${prices[0]:g} and ${prices[1]:g} per million tokens in and out (GPT-4o's list price of 2025 unless "
        "--judge_price says otherwise); 300 tokens of instructions and 10 of reply a call; answers as long as the "
        "references. The judge 'rules' costs nothing."
    )


def _prices(given: str) -> tuple[float, float]:
    try:
        price_in, price_out = map(float, given.split(","))
    except ValueError:
        wanted = "give two numbers, dollars per million tokens in and out: 2.5,10"
        raise UserError(f"--judge_price {given}: {wanted}") from None
    if min(price_in, price_out) < 0:
        raise UserError(f"--judge_price {given}: prices cannot be negative")
    return price_in, price_out


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"
