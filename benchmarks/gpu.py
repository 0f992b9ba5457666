"""What a GPU does with the paper's model, in one command of at most 8 minutes: ``python benchmarks/gpu.py``.

LLaVA-1.5-7B's architecture with random bfloat16 weights, made on the card: nothing is downloaded but what is installed.
Measured are training (our loop with several batches, and the structure of the official one), answering, kinds of
attention and of weights, and the embedded model's bench on the card beside the CPU. What does not fit, or is not
installed, is a row that says so. The JSON is written anew after every row, so that a kill loses nothing.

Beside every rate stands what it is of the card: TFLOP/s count the products that the work needs (docs/plan.md), padding
left out, and are compared with those of one large product of matrices in the weights' type.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gpu_model
import gpu_training
import torch
from gpu_bench import bench_rows
from gpu_model import PAPER, TINY, Photos, Scale, Texts
from measure import Tables, rounded
from torch.utils.benchmark import Timer

from safeeraser.bench import estimate
from safeeraser.bench.estimate.compute import answering_flops
from safeeraser.bench.estimate.fit import answering as answering_bytes
from safeeraser.config import ModelOptions
from safeeraser.core import files
from safeeraser.models import chat, loading, packing

Row = dict[str, float]
GIB = 2**30
LAST = 45
"""Seconds of the budget that the bench needs: no row of what comes before it starts with less left."""
UNPRINTED = ("triples", "seconds", "held GiB")
"""How long a row was measured, and what the allocator held; in the JSON alone."""


@dataclass
class Report:
    """What was measured so far, and what could not be."""

    scale: Scale
    out: Path
    command: str
    budget: float
    started: float = field(default_factory=time.perf_counter)
    made: dict[str, Any] = field(default_factory=files.environment)
    tables: Tables = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.perf_counter() - self.started)

    def measure(
        self, table: str, row: str, work: Callable[[], Row], known: Row | None = None, spare: float = LAST
    ) -> bool:
        """Measure one row; what is raised becomes what is said of it. ``known`` is part of the row in any case."""
        columns: Row = {}
        name, start = f"{table}: {row}", time.perf_counter()
        if self.left() < spare:
            self.said[name] = f"not measured: the budget of {self.budget:.0f} s was used up"
        else:
            try:
                columns = work()
            except torch.OutOfMemoryError:
                self.said[name] = "out of memory"
            except Exception as error:  # whatever it is, the rows after it are still wanted
                self.said[name] = " ".join(f"{type(error).__name__}: {error}".split())[:600]
        columns |= known or {}
        products = self.tables.get("card", {}).get("one large product", {}).get("TFLOP/s")
        if products and "TFLOP/s" in columns:
            columns["% of card"] = 100 * columns["TFLOP/s"] / products
        if columns:
            self.tables.setdefault(table, {})[row] = {key: rounded(value) for key, value in columns.items()}
        print(f"{time.perf_counter() - start:6.1f} s  {name}", self.said.get(name, ""), file=sys.stderr, flush=True)
        gpu_model.free(self.scale.device)
        self.write()
        return name not in self.said

    def write(self) -> None:
        """Write the JSON, in the form of the other results."""
        result = {
            "command": self.command,
            "minutes": rounded((time.perf_counter() - self.started) / 60),
            "load": rounded(os.getloadavg()[0]),
            "environment": {n: self.made["packages"].get(n) for n in ("torch", "transformers", "peft")}
            | {"python": self.made["python"], "cpus": self.made["cpus"]},
            "card": self.card,
            "tables": self.tables,
            "not measured": self.said,
        }
        files.write_json(self.out, result)

    def print(self) -> None:
        """Print the tables, 80 columns wide."""
        from rich.console import Console
        from rich.table import Table

        console = Console(width=80, highlight=False)
        console.print(", ".join(f"{name} {value}" for name, value in self.card.items()))
        for title, rows in self.tables.items():
            columns = list(dict.fromkeys(c for row in rows.values() for c in row if c not in UNPRINTED))
            table = Table(title=title, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False, box=None)
            table.add_column("", min_width=18)
            for column in columns:
                table.add_column(column.replace(" ", "\n"), justify="right")
            for row, values in rows.items():
                table.add_row(row, *("" if c not in values else f"{values[c]:g}" for c in columns))
            console.print(table)
        for name, reason in self.said.items():
            console.print(f"{name}: {reason}")


def card(report: Report, sizes: estimate.Sizes) -> None:
    """The card itself: one large product, one large copy, and what CUDA keeps for the process."""
    scale = report.scale
    side = 8192 if scale.device == "cuda" else 512
    if scale.device == "cuda":
        facts = torch.cuda.get_device_properties(0)
        report.card |= {"card": facts.name, "GiB": rounded(facts.total_memory / GIB), "CUDA": torch.version.cuda}

    def product() -> Row:
        a, b = (torch.randn(side, side, device=scale.device, dtype=scale.dtype) for _ in range(2))
        return {"TFLOP/s": 2 * side**3 / _seconds(lambda: a @ b) / 1e12}

    def copy() -> Row:
        a = torch.randn(side, side, 8, device=scale.device, dtype=scale.dtype)
        b = torch.empty_like(a)
        return {"GB/s": 2 * a.nbytes / _seconds(lambda: b.copy_(a)) / 1e9}

    def context() -> Row:
        torch.ones(1, device=scale.device)
        unused, total = torch.cuda.mem_get_info()
        return {"GiB": (total - unused - torch.cuda.memory_reserved()) / GIB}

    report.measure("card", "one large product", product)
    report.measure("card", "one large copy", copy)
    if scale.device == "cuda":
        report.measure("card", "kept by CUDA", context)


def _seconds(work: Callable[[], object]) -> float:
    """Of one call in the median; torch's timer warms up first, and waits for the card."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange().median


def training(report: Report, sizes: estimate.Sizes) -> None:
    """Our loop: batches with and without checkpointing, until one does not fit."""
    scale = report.scale
    vlm = gpu_training.trainable(scale, lean=True)
    for checkpointing, batches in ((False, scale.plain), (True, scale.checkpointed)):
        for name in gpu_training.METHODS:
            for batch in batches:
                known = gpu_training.planned(scale, sizes, name, batch, checkpointing)
                fits = report.measure(
                    "training, ours",
                    f"{name}, {batch} at once" + ", checkpointing" * checkpointing,
                    lambda n=name, b=batch, c=checkpointing: gpu_training.ours(scale, sizes, vlm, n, b, c),
                    known,
                )
                if not fits:
                    break


def official(report: Report, sizes: estimate.Sizes) -> None:
    """The loop of the official code."""
    scale = report.scale
    vlm = gpu_training.trainable(scale, lean=False)
    for name in gpu_training.METHODS:
        row = lambda n=name: gpu_training.official(scale, sizes, vlm, n)  # noqa: E731
        report.measure("training, official structure", f"{name}, 1 at once", row)


def shared(report: Report, sizes: estimate.Sizes) -> None:
    """Four triples about one image, one by one and as one sequence."""
    scale = report.scale
    vlm = gpu_training.trainable(scale, lean=True)
    vlm.model.eval()
    if reason := packing.obstacle(vlm, 512):
        report.said["training, four triples a picture"] = reason
    for batch, checkpointing in ((scale.plain[-2:][0], False), (scale.checkpointed[-2:][0], True)):
        for name, pack in itertools.product(gpu_training.METHODS, (False, True)):
            row = lambda n=name, b=batch, c=checkpointing, p=pack: gpu_training.ours(  # noqa: E731
                scale, sizes, vlm, n, b, c, pack=p
            )
            title = f"{name}, {batch} at once" + ", checkpointing" * checkpointing + ", packed" * pack
            report.measure("training, four triples a picture", title, row)


def attention(report: Report, sizes: estimate.Sizes) -> None:
    """Kinds of attention in our loop, and those that take packed rows with these, of four triples per image."""
    scale, batch = report.scale, report.scale.plain[1]
    vlm = gpu_training.trainable(scale, lean=True)
    packed = [("sdpa", True), ("flex_attention", True)]
    for kind, pack in [("sdpa", None), ("eager", None), ("flash_attention_2", None), *packed]:

        def row(kind: str = kind, pack: bool | None = pack) -> Row:
            if kind == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
                raise RuntimeError("flash-attn is not installed")
            if kind == "flex_attention" and scale.device == "cpu":
                raise RuntimeError("torch has no gradient of it on a CPU")
            vlm.model.get_base_model().set_attn_implementation({"text_config": kind})
            return gpu_training.ours(scale, sizes, vlm, "po+pd", batch, False, pack=pack)

        title = f"{kind}, po+pd, {batch} at once" + ", packed" * bool(pack)
        report.measure("training, kinds of attention", title, row)


def weights(report: Report, sizes: estimate.Sizes) -> None:
    """8 and 4 bit weights in our loop."""
    scale, batch = report.scale, report.scale.plain[1]
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("8bit", "4bit"):

            def row(kind: str = kind) -> Row:
                if importlib.util.find_spec("bitsandbytes") is None:
                    raise RuntimeError("bitsandbytes is not installed")
                if not (Path(folder) / "config.json").exists():
                    gpu_model.build(scale).model.save_pretrained(folder)
                    gpu_model.free(scale.device)
                options = ModelOptions(device=scale.device, quantization=kind)
                vlm = gpu_training.trainable(scale, True, loading.load_model("random", Path(folder), options))
                return gpu_training.ours(scale, sizes, vlm, "po+pd", batch, False, kind)

            known = gpu_training.planned(scale, sizes, "po+pd", batch, False, kind)
            report.measure("training, kinds of weights", f"{kind}, po+pd, {batch} at once", row, known)


def answering(report: Report, sizes: estimate.Sizes) -> None:
    """Answers of a fixed length, one by one and in batches."""
    scale = report.scale
    vlm, texts, photos = gpu_model.build(scale), Texts(scale), Photos(scale.photo)
    questions = [triple.forget_question for triple in texts.triples]
    prompt = 4 + sum(len(question.split()) for question in questions) / len(questions)
    longest = 4 + max(len(question.split()) for question in questions)

    def row(batch: int) -> Row:
        asked = [questions[index % len(questions)] for index in range(batch)]
        images = [photos.get(f"{index}.png") for index in range(batch)]
        chat.generate(vlm, images, asked, 2)
        gpu_model.free(scale.device)
        start, answers = time.perf_counter(), 0
        while not answers or time.perf_counter() - start < scale.seconds:
            answers += len(chat.generate(vlm, images, asked, scale.new_tokens))
            gpu_model.wait(scale.device)
        rate = answers / (time.perf_counter() - start)
        flops = answering_flops(sizes, prompt, scale.new_tokens)
        said = {"answers/s": rate, "tokens/s": rate * scale.new_tokens, "TFLOP/s": rate * flops / 1e12}
        return said | gpu_model.peaks(scale.device)

    for batch in scale.answering:
        bytes_ = answering_bytes(sizes, ModelOptions(), batch, longest + scale.new_tokens, scale.number_bytes)
        name = f"{batch} at once, {scale.new_tokens} tokens"
        if not report.measure("answering", name, lambda b=batch: row(b), {"plan GiB": bytes_ / GIB}):
            break


def bench(report: Report, sizes: estimate.Sizes) -> None:
    """The embedded model's bench."""
    for row, work in bench_rows(report.scale.device, is_tiny=report.scale is TINY, seconds=report.left):
        report.measure("bench of mini-llava", row, work, spare=10)


SECTIONS: dict[str, Callable[[Report, estimate.Sizes], None]] = {
    "card": card,
    "training": training,
    "official": official,
    "shared": shared,
    "answering": answering,
    "bench": bench,
    "attention": attention,
    "weights": weights,
}
"""In the order in which they run: what matters most comes first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help=f"these sections, comma-separated: {', '.join(SECTIONS)}")
    parser.add_argument("--budget", type=float, default=480, help="seconds after which no row is begun")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file for the JSON")
    parser.add_argument("--tiny", action="store_true", help="the same in miniature on a CPU, in under a minute")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"unknown section {unknown[0]!r}: available: {', '.join(SECTIONS)}")
    if not given.tiny and not torch.cuda.is_available():
        parser.error("torch finds no CUDA GPU here; --tiny runs the same in miniature on a CPU")
    scale = TINY if given.tiny else PAPER
    report = Report(scale, given.out, " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]), given.budget)
    sizes = gpu_model.sizes(scale)
    for name in names:
        start = time.perf_counter()
        try:
            SECTIONS[name](report, sizes)
        except Exception as error:  # the sections after it are still wanted
            report.said[name] = " ".join(f"{type(error).__name__}: {error}".split())[:600]
        gpu_model.free(scale.device)
        report.tables.setdefault("sections", {})[name] = {"s": rounded(time.perf_counter() - start)}
        report.write()
    report.print()


if __name__ == "__main__":
    main()
