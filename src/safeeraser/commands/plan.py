"""Subcommand ``safeeraser plan``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from safeeraser import config, terminal
from safeeraser.errors import UserError

if TYPE_CHECKING:
    from safeeraser.data import Benchmark
    from safeeraser.plan import Calls, Costs, Sizes, Work

GIB = 2.0**30
LOOKED_AT = 64
"""Images whose size is read; the largest counts."""


def run(options: config.PlanConfig) -> int:
    """``safeeraser plan``."""
    from safeeraser import data, objectives, plan

    prices = _prices(options.judge_price)
    method = objectives.parse_method(options.method, options.training.preset)
    benchmark = data.load(options.data, options.limit)
    triples = data.triples(benchmark.split("train"))
    if not triples:
        raise UserError(f"data {benchmark.name!r} has no train record: unlearning needs the train split")
    costs = plan.reckon(benchmark, triples, options.training, options.generation, options.processes)
    height, width = _largest(benchmark)
    sizes = plan.measure(options.model, options.training.lora, height, width)
    work = plan.work(method, triples, benchmark.refusals, options.training)
    console = terminal.console(120, highlight=False)
    for line in _lines(options, sizes, costs, work, f"{width} x {height}"):
        console.print(line)
    single = plan.work(method, triples, benchmark.refusals, replace(options.training, batch_size=1, accumulation=2))
    console.print(_memory_table(sizes, {1: single, options.training.batch_size: work}))
    console.print(
        "reckoned, never measured on a GPU; add 1 GiB for the CUDA context and 10 % for fragmentation (docs/plan.md)"
    )
    for line in _evaluation(options, costs, prices):
        console.print(line)
    return 0


def _lines(options: config.PlanConfig, sizes: Sizes, costs: Costs, work: Work, image: str) -> Iterator[str]:
    parts = ", ".join(f"{name} {_millions(count)}" for name, count in sizes.parts.items() if count)
    yield f"model {options.model}, family {sizes.family}: {_millions(sizes.parameters)} parameters ({parts})"
    share = sizes.trainable / (sizes.parameters + sizes.trainable)
    yield (
        f"trainable: {_millions(sizes.trainable)}, {share:.2%} of all with the adapter: LoRA r {sizes.rank} on "
        f"{sizes.lora_layers} linear layers {_millions(sizes.lora)}, projector {_millions(sizes.projector)}"
    )
    training = options.training
    yield (
        f"data {options.data}: {costs.triples:,} train triples; {costs.steps:,} optimizer steps of "
        f"{training.batch_size * training.accumulation * options.processes} triples ({training.batch_size} x "
        f"{training.accumulation} x {options.processes} GPU)"
    )
    yield (
        f"a forward pass: {work.rows} rows of up to {sizes.image_tokens} image tokens (images of {image}) and "
        f"{work.text} others (assumed: 1.4 tokens a word)"
    )


def _memory_table(sizes: Sizes, works: dict[int, Work]) -> object:
    from rich.table import Table

    from safeeraser.plan import peak

    table = Table(title="peak memory of training, GiB per GPU", title_justify="left")
    table.add_column("triples at once")
    table.add_column("frozen weights in")
    for name in ("weights", "trained", "activations", "logits", "peak", "peak with checkpointing"):
        table.add_column(name, justify="right")
    for batch, work in sorted(works.items(), reverse=True):
        for label, quantization in (("bf16", "none"), ("8 bit", "8bit"), ("4 bit", "4bit")):
            plain = peak(sizes, work, quantization)
            small = peak(sizes, work, quantization, checkpointing=True)
            numbers = (plain.weights, plain.trained, plain.activations, plain.logits, plain.total, small.total)
            table.add_row(str(batch), label, *(f"{number / GIB:.1f}" for number in numbers))
    return table


def _evaluation(options: config.PlanConfig, costs: Costs, prices: tuple[float, float]) -> Iterator[str]:
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
        price_in, price_out = (float(part) for part in given.split(","))
    except ValueError:
        raise UserError(
            f"--judge_price {given}: give two numbers, dollars per million tokens in and out: 2.5,10"
        ) from None
    if min(price_in, price_out) < 0:
        raise UserError(f"--judge_price {given}: prices cannot be negative")
    return price_in, price_out


def _largest(benchmark: Benchmark) -> tuple[int, int]:
    """Height and width of the largest of the first train images."""
    from PIL import Image

    sizes = []
    for record in benchmark.split("train")[:LOOKED_AT]:
        with Image.open(benchmark.image(record.image)) as image:
            sizes.append((image.height, image.width))
    return max(sizes, key=lambda size: size[0] * size[1])


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f}B" if count >= 1e9 else f"{count / 1e6:.2f}M"
