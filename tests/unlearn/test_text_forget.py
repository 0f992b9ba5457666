"""Forget questions that are trained on without their picture (arXiv 2406.02575)."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from safeeraser import models
from safeeraser.bench.runs import train_log
from safeeraser.config import LoraOptions, UnlearnOptions
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, triples
from safeeraser.data.images import ImageCache
from safeeraser.models import chat, prefix
from safeeraser.objectives import parse_method
from safeeraser.unlearn.batch import RowCollator, TripleDataset, answer_log_probs, select
from safeeraser.unlearn.stage import run

OPTIONS = UnlearnOptions(
    steps=1, batch_size=24, lora=LoraOptions(rank=4, alpha=8.0), seed=7, text_forget=1.0, warmup_ratio=0.0
)


def dataset(benchmark: Benchmark, rows: tuple[str, ...], share: float) -> TripleDataset:
    return TripleDataset(triples(benchmark.records), rows, benchmark.refusals, 7, share)


def test_the_share_is_of_forget_questions_alone_and_drawn_anew_in_every_epoch(benchmark: Benchmark) -> None:
    half = dataset(benchmark, ("forget", "refusal", "retain", "decouple"), 0.5)
    drawn = []
    for epoch in range(2):
        half.set_epoch(epoch)
        items = [half[index] for index in range(24)]
        assert all(bool(item["forget"].image) == bool(item["refusal"].image) for item in items)
        assert all(item["retain"].image and item["decouple"].image for item in items)
        drawn.append([bool(item["forget"].image) for item in items])
    assert drawn[0] != drawn[1] and all(6 <= sum(one) <= 18 for one in drawn)
    none, every = dataset(benchmark, ("forget",), 0.0), dataset(benchmark, ("forget",), 1.0)
    assert all(none[index]["forget"].image and not every[index]["forget"].image for index in range(24))
    assert every[3]["forget"] == replace(none[3]["forget"], image="")


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_no_part_of_a_batch_mixes_rows_with_and_without_a_picture(share, pack, tiny_model, benchmark, monkeypatch):
    """And every row has what it has alone: rows come back in their order."""
    monkeypatch.setattr(prefix, "LEAST_SHARED", 16)
    vlm, method = models.load(str(tiny_model)), parse_method("ga+pd")
    made = dataset(benchmark, method.rows, share)
    items = [made[index] for index in range(12)]
    images = ImageCache(benchmark)
    batch = RowCollator(vlm, images, method, 512, pack, text_forget=True)(items)
    text = Counter("pixel_values" in part["inputs"] for part in batch["parts"])
    # 24 rows: in two parts, those without a picture in one of their own; packed, where nothing is padded, in one
    assert text == {True: 1 if pack else 2, False: 1}
    with torch.no_grad():
        said = select("forget", batch, answer_log_probs(vlm.model, batch), None)
        for row, item in enumerate(items):
            sample = item["forget"]
            shown = images.get(sample.image) if sample.image else None
            alone = chat.encode_samples(vlm, [shown], [sample.question], [sample.answer], 512)
            assert ("pixel_values" in alone[0]) == bool(sample.image)
            expected = chat.answer_log_probs(vlm.model, *alone).answer[0]
            torch.testing.assert_close(said.answer[row][said.mask[row]], expected)


def test_processes_run_a_model_equally_often_whatever_is_drawn(tiny_model: Path, benchmark: Benchmark) -> None:
    vlm = models.load(str(tiny_model))
    for name in ("po+pd", "ga", "dpo"):
        method = parse_method(name if name != "ga" else {"ga": 1})
        counts = set()
        for share in (0.0, 0.5, 1.0):
            made = dataset(benchmark, method.rows, share)
            for size in (2, 12):
                items = [made[index] for index in range(size)]
                batch = RowCollator(vlm, ImageCache(benchmark), method, 512, text_forget=True)(items)
                counts.add((size, len(batch["parts"])))
        assert len(counts) == 2, name


def test_the_loss_is_the_terms_on_the_question_alone(tiny_model: Path, benchmark: Benchmark, tmp_path: Path) -> None:
    """Before the first update: the mean over all 24 triples of what the refusal costs after the question without a
    picture; with a share of 0 it is another number, and PD's is the same."""
    method = parse_method({"po": 1, "pd": 1})
    lines = []
    for share in (1.0, 0.0):
        out = tmp_path / str(share)
        run(str(tiny_model), benchmark, method, replace(OPTIONS, text_forget=share), out, lambda *_: None)
        lines += train_log(out)
    vlm, costs = models.load(str(tiny_model)), []
    made = dataset(benchmark, ("refusal",), 0.0)
    for index in range(24):
        sample = made[index]["refusal"]
        encoded = chat.encode_samples(vlm, [None], [sample.question], [sample.answer], 512)
        with torch.no_grad():
            costs.append(-chat.answer_log_probs(vlm.model, *encoded).answer.mean().item())
    bare, shown = lines
    assert bare["po"] == pytest.approx(sum(costs) / 24, abs=1e-4) != pytest.approx(shown["po"], abs=1e-4)
    assert bare["pd"] == pytest.approx(shown["pd"], abs=1e-4)


def test_a_reference_sees_no_picture_either(tiny_model: Path, benchmark: Benchmark, tmp_path: Path) -> None:
    """Before the first update policy and reference agree: DPO is ln 2, cached or not; afterwards they do not."""
    for cached in (False, True):
        options = replace(OPTIONS, steps=2, cache_reference=cached, learning_rate=1e-2)
        run(str(tiny_model), benchmark, parse_method("dpo"), options, tmp_path / str(cached), lambda *_: None)
        first, second = train_log(tmp_path / str(cached))
        assert first["dpo"] == pytest.approx(0.693147, abs=1e-4) != pytest.approx(second["dpo"], abs=1e-4)


def test_a_share_is_a_share(tiny_model: Path, benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="text_forget: 1.5 was given"):
        run(str(tiny_model), benchmark, parse_method("po"), replace(OPTIONS, text_forget=1.5), tmp_path)


def test_every_family_encodes_answers_without_a_picture(tiny_folders: dict[str, Path]) -> None:
    for family, folder in tiny_folders.items():
        vlm = models.load(str(folder))
        questions, answers = ["What is it?", "What is shown in the picture?"], ["A red axe.", "It is a cup."]
        together = chat.encode_samples(vlm, [None, None], questions, answers, 128)
        assert "pixel_values" not in together[0], family
        with torch.no_grad():
            said = chat.answer_log_probs(vlm.model, *together)
            for row in range(2):
                alone = chat.encode_samples(vlm, [None], questions[row : row + 1], answers[row : row + 1], 128)
                expected = chat.answer_log_probs(vlm.model, *alone).answer[0]
                torch.testing.assert_close(said.answer[row][said.mask[row]], expected, msg=family, rtol=1e-3, atol=1e-3)
