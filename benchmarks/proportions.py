"""What sharing an image brings where it is most of a row: ``python benchmarks/proportions.py``.

A LLaVA of about 50M parameters in its language model, with random weights: an image is 576 tokens, as in LLaVA-1.5, the
vocabulary and the lengths of texts are the paper's, and the rank of LoRA is to the width as there. Training is a pass
forward and back over four triples about one image, as the benchmark has them, by the loop of the official code
(``unlearning.Reference``) and by ours, whole and with one thing switched off. One thread, one after the other;
processor time, which a busy machine changes little. Peak memory is what comes on top of the model. What it brings in
answering is measured by ``answering.py``.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gpu_model
import torch
from gpu_model import PAPER, Photos, Scale, Texts, build
from gpu_training import load_of, options, trainable
from measure import publish
from unlearning import Reference, needs_second

from safeeraser import models
from safeeraser.bench import estimate
from safeeraser.config import LoraOptions
from safeeraser.models import adapters, chat
from safeeraser.objectives import Method, parse_method
from safeeraser.unlearn.batch import RowCollator, TripleDataset, answer_log_probs, select

TRIPLES = 4
"""About one image."""
SMALL = replace(
    PAPER,
    device="cpu",
    dtype=torch.float32,
    text=PAPER.text
    | {
        "hidden_size": 512,
        "intermediate_size": 1376,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
    vision=PAPER.vision
    | {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 64,
    },
    photo=(336, 336),
    triples=TRIPLES,
    accumulation=1,
    lora=LoraOptions(rank=4, alpha=32.0),
)
FEW = replace(
    SMALL,
    text={
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    vision=SMALL.vision | {"image_size": 56},
    photo=(56, 56),
    tokens={"question": 13, "unsafe": 33, "refusal": 11, "retain": 18, "safe": 36},
)
"""SmolLLaVA's proportions on the embedded benchmark: 16 tokens an image."""
MEBIBYTE = 2**20
Work = Callable[[], object]


class Side:
    """Work that is done in turn with others': processor seconds each time, and MiB on top of what was there."""

    def __init__(self, work: Work, resident: float = 0.0) -> None:
        self._work, self._resident = work, resident
        self.seconds: list[float] = []
        self.mebibytes = 0.0

    def run(self) -> object:
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # VmHWM starts again
        before, start = memory("VmRSS"), time.process_time()
        found = self._work()
        self.seconds.append(time.process_time() - start)
        self.mebibytes = memory("VmHWM") - before + self._resident
        return found

    def rate(self, count: int) -> float:
        return count / statistics.median(self.seconds)


def memory(field: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def ours(
    vlm: models.VisionLanguageModel,
    method: Method,
    data: TripleDataset,
    pack: bool,
    at_once: int,
    photo: tuple[int, int] = SMALL.photo,
) -> Work:
    """A pass of ``UnlearnTrainer`` over all triples, so many at once."""
    collate = RowCollator(vlm, Photos(photo), method, 512, pack)

    def work() -> None:
        vlm.model.train()
        for start in range(0, TRIPLES, at_once):
            batch = collate([data[index] for index in range(start, start + at_once)])
            policy, reference = answer_log_probs(vlm.model, batch, method.needs), None
            if "reference" in batch:
                with adapters.reference_mode(vlm.model):
                    reference = answer_log_probs(vlm.model, batch["reference"], method.needs)
            rows = {kind: select(kind, batch, policy, reference) for kind in method.rows}
            del policy, reference, batch
            loss, _ = method.loss(rows)
            del rows
            (loss * at_once / TRIPLES).backward()
        vlm.model.zero_grad()

    return work


def planned(vlm: models.VisionLanguageModel, method: Method, data: TripleDataset, work: estimate.Workload) -> float:
    """MiB on top of the model that ``plan`` would say of all triples packed, knowing their lengths."""
    collate = RowCollator(vlm, Photos(SMALL.photo), method, 512, True)
    labels = [part["labels"] for part in collate([data[index] for index in range(TRIPLES)])["parts"]]
    pictures = 2  # the unsafe one and the safe one
    most = sum(part.numel() for part in labels), pictures, sum(int((part != chat.IGNORED).sum()) for part in labels)
    sizes, packed = gpu_model.sizes(SMALL), estimate.Passes(0, 0, 0, 0, 0, most).packed(work, SMALL.image_tokens)
    said = estimate.peak(sizes, packed, number_bytes=SMALL.number_bytes)
    return (said.total - said.weights) / MEBIBYTE


def official(vlm: models.VisionLanguageModel, method: Method, data: TripleDataset, second: Any) -> Work:
    loop = Reference(vlm, method, options(SMALL), data, Photos(SMALL.photo), second)

    def work() -> None:
        vlm.model.train()
        for index in range(TRIPLES):
            (loop.loss(data[index]) / TRIPLES).backward()
        vlm.model.zero_grad()

    return work


def training(names: Sequence[str], repeats: int) -> dict[str, dict[str, float]]:
    plain, lean = (trainable(SMALL, lean) for lean in (False, True))
    found: dict[str, dict[str, float]] = {}
    for name in names:
        method, texts = parse_method(name), Texts(SMALL)
        about_one = [replace(triple, image="0.png", safe_image="1.png") for triple in texts.triples]
        data = TripleDataset(about_one, method.rows, texts.refusals, 0)
        second = build(SMALL).model if needs_second(method) else None
        weights = sum(p.nbytes for p in second.parameters()) / MEBIBYTE if second is not None else 0.0
        sides = {
            "the official loop": Side(official(plain, method, data, second), weights),
            "ours": Side(ours(lean, method, data, True, TRIPLES)),
            "ours, packing off": Side(ours(lean, method, data, False, TRIPLES)),
            "ours, one triple at a time": Side(ours(lean, method, data, True, 1)),
            "ours, lean layers off": Side(ours(plain, method, data, True, TRIPLES)),
        }
        for _ in range(repeats):
            for label, side in sides.items():
                side.run()
                print(name, label, round(side.seconds[-1], 2), round(side.mebibytes), file=sys.stderr, flush=True)
        base, whole = (sides[label].rate(TRIPLES) for label in ("the official loop", "ours"))
        for label, side in sides.items():
            row = {"triples per processor second": side.rate(TRIPLES), "peak MiB": side.mebibytes}
            row["times the official loop"] = side.rate(TRIPLES) / base
            if label.startswith("ours,"):
                row["what is off brings"] = whole / side.rate(TRIPLES)
            if label == "ours":
                row["plan MiB"] = planned(lean, method, data, load_of(texts, method, TRIPLES).work)
            found[f"{name}, {label}"] = row
    return found


def few_tokens(scale: Scale, repeats: int) -> dict[str, dict[str, float]]:
    """Training of PO+PD packed and one by one, where an image is few tokens."""
    method, texts, vlm = parse_method("po+pd"), Texts(scale), trainable(scale, True)
    found: dict[str, dict[str, float]] = {}
    one = [replace(triple, image="0.png", safe_image="1.png") for triple in texts.triples]
    for label, triples in (("a picture each", texts.triples), ("one picture", one)):
        data = TripleDataset(triples, method.rows, texts.refusals, 0)
        sides = {pack: Side(ours(vlm, method, data, pack, TRIPLES, scale.photo)) for pack in (False, True)}
        for _ in range(1 + repeats):  # the first round warms up
            for side in sides.values():
                side.run()
        for pack, side in sides.items():
            side.seconds = side.seconds[1:]
            row = {"triples per processor second": side.rate(TRIPLES), "peak MiB": side.mebibytes}
            if pack:
                row["packing brings"] = side.rate(TRIPLES) / sides[False].rate(TRIPLES)
            found[f"{label}, {'packed' if pack else 'row by row'}"] = row
        print(label, {pack: side.seconds for pack, side in sides.items()}, file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="po+pd,kl+pd")
    parser.add_argument("--repeats", type=int, default=1, help="of each side")
    given = parser.parse_args()
    torch.set_num_threads(1)
    trained = training(given.methods.split(","), given.repeats)
    publish({"training": trained, "few tokens": few_tokens(FEW, given.repeats)})


if __name__ == "__main__":
    main()
