"""Hours of training and answering on a GPU: operations of ``compute`` over what a card does in a second.

Rates come from a table of cards and what an H100 reached of its own (docs/benchmarks.md), or from a measurement
(``benchmarks/gpu.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser.bench.estimate.compute import Passes, answering_flops, training_flops
from safeeraser.bench.estimate.costs import Lengths
from safeeraser.bench.estimate.sizes import Sizes
from safeeraser.core import files
from safeeraser.core.errors import UserError

TRAINING_SHARE = 0.32
"""Of a card's peak that training reaches while it computes: fitted, with the next, to an H100; assumed of others."""
PASS_SECONDS = 0.009
"""That a layer takes in a forward and backward pass beside its products: start of kernels, Python, the batch."""
LAYER_SECONDS = 0.0006
"""Assumed: that a layer takes for a token at least, however small the batch: Python and the start of kernels."""


@dataclass(frozen=True)
class Card:
    """A GPU: peak of dense bfloat16 products with float32 sums, and of its memory."""

    tflops: float
    gigabytes_a_second: float
    source: str


_NVIDIA = "data sheet of NVIDIA"
CARDS: dict[str, Card] = {
    "a100-40gb": Card(312, 1555, f"{_NVIDIA} A100"),
    "a100-80gb": Card(312, 2039, f"{_NVIDIA} A100"),
    "h100": Card(989.4, 3350, f"{_NVIDIA} H100 (SXM; its 1,979 are with sparsity); we measured 775 and 2,954"),
    "h200": Card(989.4, 4800, f"{_NVIDIA} H200 (SXM; its 1,979 are with sparsity)"),
    "l40s": Card(362, 864, f"{_NVIDIA} L40S"),
    "a6000": Card(154.8, 768, "Microway, In-Depth Comparison of NVIDIA Ampere GPU Accelerators"),
    "rtx3090": Card(71, 936, "derived: half of its 142 in float16 with float16 sums; not checked against a source"),
    "rtx4090": Card(165.2, 1008, "waredb.com, of AD102 at 2,520 MHz"),
}
"""Cards by name, with where their figures are from."""


@dataclass(frozen=True)
class Rates:
    """How fast a card works."""

    title: str
    training: float
    """Operations a second."""
    card: Card | None = None
    answering: Mapping[int, float] | None = None
    """Operations a second by questions at once, where they were measured."""
    pass_seconds: float = 0.0
    """Of a layer, beside its operations."""

    def training_seconds(
        self, sizes: Sizes, triples: float, policy: Passes, reference: Passes | None = None, checkpointing: bool = False
    ) -> float:
        """Seconds of one GPU for all passes over the triples.

        Of a layer's own time a third is taken to be the forward pass, which checkpointing and the reference repeat.

        Args:
            sizes: The model's.
            triples: That go through in all, those of every epoch counted.
            policy: What goes through for one of them.
            reference: What goes through the reference.
            checkpointing: Whether activations are computed twice.
        """
        flops = training_flops(sizes, policy, reference, checkpointing)
        forward = (3 + checkpointing) * policy.runs + (reference.runs if reference else 0.0)
        return triples * (flops / self.training + sizes.layers * self.pass_seconds * forward / 3)

    def answering_seconds(self, sizes: Sizes, lengths: Lengths, answers: int, batch: int) -> float:
        """Seconds of one GPU for all answers.

        Where nothing was measured, a token of a batch takes what reading the weights and its keys and values takes, and
        no less than ``LAYER_SECONDS`` a layer; the question is read at the rate of training.
        """
        prompt = lengths.text - lengths.answer
        if self.answering:
            nearest = min(self.answering, key=lambda measured: abs(measured - batch))
            return answers * answering_flops(sizes, prompt, lengths.answer) / self.answering[nearest]
        if self.card is None:
            raise ValueError("neither a card nor measured rates of answering are known")
        read = 2.0 * sizes.parameters + batch * (sizes.image_tokens + lengths.text) * sizes.layers * 4 * sizes.keys
        token = max(sizes.layers * LAYER_SECONDS, read / (self.card.gigabytes_a_second * 1e9))
        return answers * (answering_flops(sizes, prompt, 0) / self.training + lengths.answer * token / batch)


def rates(gpu: str, throughput: str | None, checkpointing: bool, batch: int) -> Rates:
    """How fast a card works, by its name or by what was measured on it.

    Args:
        gpu: A name in ``CARDS``; not read where there is a measurement.
        throughput: File that ``benchmarks/gpu.py`` has written.
        checkpointing: As training will have it.
        batch: Triples at once.

    Raises:
        UserError: If there is no such card, or the file is none of that script.

    Example:
        >>> rates("a100-80gb", None, False, 1).title
        'a100-80gb: 312 TFLOP/s, of which 32 % are assumed to be reached in training, and 9 ms a layer and pass'
    """
    if throughput is not None:
        return _measured(Path(throughput), checkpointing, batch)
    if gpu not in CARDS:
        raise UserError(f"gpu {gpu!r} is unknown: give one of {', '.join(CARDS)}, or --throughput FILE")
    card = CARDS[gpu]
    known = "were" if gpu == "h100" else "are assumed to be"
    title = (
        f"{gpu}: {card.tflops:g} TFLOP/s, of which {100 * TRAINING_SHARE:g} % {known} reached in training, and "
        f"{1000 * PASS_SECONDS:g} ms a layer and pass"
    )
    return Rates(title, TRAINING_SHARE * card.tflops * 1e12, card, pass_seconds=PASS_SECONDS)


def _measured(path: Path, checkpointing: bool, batch: int) -> Rates:
    """Rates of the rows that are most like what is planned."""
    result: Any = files.read_json(path)
    try:
        trained, answered = (_by_batch(result["tables"].get(name, {})) for name in ("training, ours", "answering"))
        rows, card = result["tables"].get("card", {}), None
        if not answered:
            card = Card(rows["one large product"]["TFLOP/s"], rows["one large copy"]["GB/s"], str(path))
        same = {key: rate for key, rate in trained.items() if key[1] == checkpointing}
        alike = {rows: rate for (rows, _), rate in (same or trained).items()}
        nearest = min(alike, key=lambda rows: abs(rows - batch))
        title = f"{result['card'].get('card', 'CPU')}, measured ({path}): {alike[nearest] / 1e12:.3g} TFLOP/s"
        title += " in training of rows one by one" + ("" if answered else "; answers from the speed of its memory")
        return Rates(title, alike[nearest], card, {rows: rate for (rows, _), rate in answered.items()})
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"--throughput {path}: this is no file of benchmarks/gpu.py with the sections card and training"
        ) from None


def _by_batch(rows: Mapping[str, Mapping[str, float]]) -> dict[tuple[int, bool], float]:
    """Operations a second by batch and by whether activations were computed twice; of several methods the mean."""
    found: dict[tuple[int, bool], list[float]] = {}
    for name, columns in rows.items():
        at_once = re.search(r"(\d+) at once", name)
        if at_once and "TFLOP/s" in columns:
            key = int(at_once[1]), name.endswith("checkpointing")
            found.setdefault(key, []).append(columns["TFLOP/s"] * 1e12)
    return {key: sum(values) / len(values) for key, values in found.items()}
