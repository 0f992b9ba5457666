"""MMUnlearner's gradient mask, by hand and in training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from safeeraser import models
from safeeraser.bench.runs import train_log
from safeeraser.config import LoraOptions, UnlearnOptions
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, triples
from safeeraser.data.images import ImageCache
from safeeraser.models import adapters, chat
from safeeraser.objectives import parse_method
from safeeraser.unlearn import saliency
from safeeraser.unlearn.batch import RowCollator, TripleDataset, answer_log_probs, select
from safeeraser.unlearn.stage import run

OPTIONS = UnlearnOptions(
    steps=1, batch_size=12, learning_rate=1e-2, weight_decay=0.0, warmup_ratio=0.0, seed=7,
    lora=LoraOptions(rank=4, alpha=8.0, dropout=0.0),
)  # fmt: skip


def trainable(folder: Path) -> models.VisionLanguageModel:
    torch.manual_seed(0)
    return adapters.attach(models.load(str(folder)), OPTIONS.lora)


def mask_of(
    vlm: models.VisionLanguageModel, benchmark: Benchmark, threshold: float, size: int = 10
) -> saliency.GradientMask:
    pairs = RowCollator(vlm, ImageCache(benchmark), saliency.READ, 512)
    return saliency.find_mask(vlm, triples(benchmark.records), pairs, size, threshold)


def test_the_mask_is_the_ratio_of_mean_squared_gradients(tiny_model: Path, benchmark: Benchmark) -> None:
    """24 triples in batches of 10, 10 and 4: each batch's mean cross-entropy, its gradient squared, and the mean of
    the three, of unsafe answers and of retain answers; the threshold as the authors' code has it, epsilon included."""
    vlm = trainable(tiny_model)
    found = mask_of(vlm, benchmark, 1.0).masks
    made, images = triples(benchmark.records), ImageCache(benchmark)
    weights = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
    assert set(weights.values()) == set(found)
    fisher: dict[str, dict[str, torch.Tensor]] = {"forget": {}, "retain": {}}
    vlm.model.eval()
    for kind, sums in fisher.items():
        for start in (0, 10, 20):
            part = made[start : start + 10]
            questions = [getattr(one, f"{kind}_question") for one in part]
            answers = [one.unsafe_answer if kind == "forget" else one.retain_answer for one in part]
            encoded = chat.encode_samples(vlm, [images.get(one.image) for one in part], questions, answers, 512)
            said = chat.answer_log_probs(vlm.model, *encoded)
            vlm.model.zero_grad()
            (said.answer.sum(1) / said.mask.sum(1)).mean().backward()
            for name, weight in weights.items():
                if weight.grad is not None:
                    sums[name] = sums.get(name, 0) + weight.grad.square() / 3
    kept = []
    for name, weight in weights.items():
        forget, keep = fisher["forget"][name], fisher["retain"][name]
        ratio = (forget + 1e-15) / (keep + 1e-15)
        sure = (ratio - 1).abs() > 1e-3  # what lies on the bound is decided by rounding
        assert torch.equal(found[weight][sure], (ratio >= 1)[sure]), name
        assert "lora_A" not in name or bool(found[weight].all())  # no gradient yet, in neither: the ratio is 1
        kept.append(float(found[weight].float().mean()))
    assert 0 < min(kept) < 0.9


def test_only_the_gradient_of_forget_terms_is_masked(tiny_model: Path, benchmark: Benchmark) -> None:
    """m * d(ga + po)/dw + d(nll + pd)/dw, each taken alone; the value of the loss is that of the sum."""
    vlm, method = trainable(tiny_model), parse_method({"ga": 0.5, "po": 2, "nll": 1, "pd": 1})
    mask = mask_of(vlm, benchmark, 1.0)
    made = TripleDataset(triples(benchmark.records), method.rows, benchmark.refusals, 0)
    batch = RowCollator(vlm, ImageCache(benchmark), method, 512)([made[index] for index in range(6)])
    vlm.model.eval()

    def terms() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        said = answer_log_probs(vlm.model, batch)
        return method.loss({rows: select(rows, batch, said, None) for rows in method.rows})

    weights, parts = list(mask.masks), terms()[1]
    of_forget = torch.autograd.grad(0.5 * parts["ga"] + 2 * parts["po"], weights, retain_graph=True)
    of_rest = torch.autograd.grad(parts["nll"] + parts["pd"], weights)
    for passes in range(2):  # gradients of two passes add up
        total, components = terms()
        masked = mask.apply(method, components, total, 2)
        assert masked.item() == pytest.approx(total.item())
        (masked / 2).backward()
        for weight, forget, rest in zip(weights, of_forget, of_rest, strict=True):
            expected = (forget * mask.masks[weight] + rest) * (passes + 1) / 2
            torch.testing.assert_close(weight.grad, expected, rtol=1e-4, atol=1e-7)


def test_what_is_masked_does_not_move_and_the_rest_does(tiny_model, benchmark, tmp_path, monkeypatch):
    """One step of gradient ascent alone, accumulated over two passes, activations computed twice."""
    seen: list[dict[str, torch.Tensor]] = []
    real = saliency.find_mask

    def remember(vlm: models.VisionLanguageModel, *given: object) -> saliency.GradientMask:
        made = real(vlm, *given)
        names = {p: name for name, p in vlm.model.named_parameters()}
        seen.append({names[p]: value for p, value in made.masks.items()})
        seen.append({names[p]: p.detach().clone() for p in made.masks})
        return made

    monkeypatch.setattr("safeeraser.unlearn.stage.find_mask", remember)
    options = replace(OPTIONS, saliency=1.0, accumulation=2, gradient_checkpointing=True)
    out = run(str(tiny_model), benchmark, parse_method({"ga": 1}), options, tmp_path, lambda *_: None)
    masks, before = seen
    after = load_file(out / adapters.WEIGHTS)
    moved, still = 0, 0
    for name, mask in masks.items():
        now = after[name.replace(".default", "").replace("modules_to_save.", "")]
        assert torch.equal(now[~mask], before[name][~mask]), name
        moved += int((now != before[name]).sum())
        still += int((~mask).sum())
    assert moved > 100 and still > 100


def test_a_ratio_that_everything_has_is_no_mask_and_without_a_forget_term_nothing_is_masked(
    tiny_model: Path, benchmark: Benchmark, tmp_path: Path
) -> None:
    for method, ratio in [({"po": 1, "nll": 1}, 0.0), ({"nll": 1, "pd": 1}, 1e6)]:
        logs = []
        for value in (None, ratio):
            out = tmp_path / f"{'+'.join(method)}-{value}"
            options = replace(OPTIONS, steps=3, saliency=value)
            run(str(tiny_model), benchmark, parse_method(method), options, out, lambda *_: None)
            logs.append(train_log(out))
        for one, other in zip(*logs, strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_a_ratio_below_0_is_refused(tiny_model: Path, benchmark: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training.saliency: -1 was given"):
        run(str(tiny_model), benchmark, parse_method("po"), replace(OPTIONS, saliency=-1), tmp_path)
