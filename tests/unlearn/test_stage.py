import importlib.util
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from safeeraser import models
from safeeraser.bench.runs import train_log
from safeeraser.config import GroupBy, LoraOptions, ModelOptions, UnlearnOptions
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, triples
from safeeraser.data.images import ImageCache
from safeeraser.models import chat, hash_adapter, packing, prefix
from safeeraser.objectives import METHODS, by_position, parse_method
from safeeraser.unlearn.batch import (
    RowCollator,
    Sample,
    TripleDataset,
    answer_log_probs,
    select,
)
from safeeraser.unlearn.order import EpochSampler
from safeeraser.unlearn.reference_cache import ReferenceCache
from safeeraser.unlearn.stage import run

OPTIONS = UnlearnOptions(
    steps=3, learning_rate=2e-3, batch_size=4, warmup_ratio=0.0, lora=LoraOptions(rank=4, alpha=8.0), seed=7
)


@pytest.fixture
def unlearn(tiny_model: Path, benchmark: Benchmark, tmp_path: Path) -> Callable[..., Path]:
    """Unlearn in a folder of the test's own; returns the adapter."""

    def unlearn(out: str = ".", method: Any = "po+pd", model: Path = tiny_model, data: Benchmark = benchmark,
                loading: ModelOptions | None = None, **changes: Any) -> Path:  # fmt: skip
        options = replace(OPTIONS, **changes)
        method = parse_method(method, options.preset)
        return run(str(model), data, method, options, tmp_path / out, lambda *_: None, loading)

    return unlearn


def steps(adapter: Path) -> list[dict[str, float]]:
    return train_log(adapter.parent)


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in sorted(adapter.glob("*.safetensors")) for k, v in load_file(file).items()}


@pytest.mark.parametrize("method", [*METHODS.names(), *(f"{name}+pd" for name in METHODS.names())])
def test_every_method_trains_and_logs_every_term_at_every_step(method, unlearn):
    adapter = unlearn(".", method, steps=2)
    lines = steps(adapter)
    terms = [term.name for term, _ in parse_method(method).terms]
    assert [line["step"] for line in lines] == [1, 2]
    for line in lines:
        assert set(line) == {"step", "epoch", "loss", "grad_norm", "learning_rate", *terms}
        assert all(math.isfinite(value) for value in line.values())
        assert line["loss"] == pytest.approx(sum(line[term] for term in terms), abs=1e-4)


def test_each_term_reads_its_own_rows(unlearn, tiny_model, benchmark):
    """One batch of all 24 triples: before the first update each term is the mean of what the samples cost one by one.

    In one batch the rows are padded and mixed; alone they are neither.
    """
    (line,) = steps(unlearn(".", "po+pd", steps=1, batch_size=24))
    vlm = models.load(str(tiny_model))
    dataset = TripleDataset(triples(benchmark.records), ("refusal", "retain", "decouple"), benchmark.refusals, 7)
    for term, rows in [("po", "refusal"), ("nll", "retain"), ("pd", "decouple")]:
        costs = []
        for index in range(24):
            sample = dataset[index][rows]
            with Image.open(benchmark.image(sample.image)) as image:
                encoded = chat.encode_samples(vlm, [image], [sample.question], [sample.answer], 512)
            with torch.no_grad():
                costs.append(-chat.answer_log_probs(vlm.model, *encoded).answer.mean().item())
        assert line[term] == pytest.approx(sum(costs) / 24, abs=1e-4)


def test_arithmetic_follows_the_weights_whatever_a_launch_asks_for(unlearn, monkeypatch):
    """``accelerate launch`` takes a mixed precision from a file of the user's own, and hands it on like this."""
    plain = weights(unlearn("plain", steps=1))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    mixed = weights(unlearn("mixed", steps=1))
    assert all(torch.equal(value, mixed[name]) for name, value in plain.items())


def test_the_reference_is_the_model_before_unlearning(unlearn):
    """Before the first update, model and reference are equal: KL = 0, NPO = 2/beta ln 2 = 20 ln 2 (of a whole
    answer), DPO = ln 2, and the states of RMU's retain loss are those of the reference.

    Afterwards the model moves and the reference does not: neither holds.
    """
    for method, expected in [
        ("kl=1+pd", 0.0),
        ("npo", 20 * math.log(2)),
        ("dpo", math.log(2)),
        ("rmu_retain+pd", 0.0),
    ]:
        whole = {"npo_per_token": False}
        first, *_, last = steps(unlearn(method, method, steps=4, terms=whole))
        term = re.split(r"[=+]", method)[0]
        assert first[term] == pytest.approx(expected, abs=1e-5)
        assert last[term] != pytest.approx(expected, abs=1e-5)


def of_token(tokens: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    return said.gather(-1, tokens[:, None])[:, 0]


def test_terms_that_read_tokens_read_those_of_the_answers(tiny_model: Path, benchmark: Benchmark) -> None:
    """The log-probability of the answer stands in the distribution at its token, in every row of a mixed batch."""
    vlm = models.load(str(tiny_model))
    method = parse_method("undial+po+pd")
    dataset = TripleDataset(triples(benchmark.records), method.rows, benchmark.refusals, 0)
    batch = RowCollator(vlm, ImageCache(benchmark), method, 512)([dataset[item] for item in range(5)])
    with torch.no_grad():
        policy = answer_log_probs(vlm.model, batch, method.needs)
    for rows in method.rows:
        found = select(rows, batch, policy, None)
        assert found.tokens is not None and found.distribution is not None
        said = by_position(of_token, found.mask, found.tokens, found.distribution)
        assert torch.equal(said[found.mask], found.answer[found.mask])
        first = [row[:3] for row in found.tokens]
        answers = [dataset[item][rows].answer for item in range(5)]
        assert [vlm.processor.tokenizer.decode(tokens).strip()[:1] for tokens in first] == [a[:1] for a in answers]


@pytest.mark.parametrize("method", ["undial", "ce_u", "wga", "satimp"])
def test_terms_that_others_published_forget(method, unlearn, tiny_model, benchmark):
    """The cross-entropy of the forget answers, all of them in each step, grows.

    satimp's beta1 of 5 leaves nothing to the tokens of a random model, whose probability is about 1 in 1,000.
    """
    changes = {"steps": 12, "batch_size": 24, "learning_rate": 1e-2, "terms": {"satimp_beta1": 0.5}}
    adapter = unlearn(".", f"{method}=1", **changes)
    assert forget_cost(tiny_model, benchmark, adapter) > forget_cost(tiny_model, benchmark, None)


def forget_cost(model: Path, benchmark: Benchmark, adapter: Path | None) -> float:
    vlm = models.load(str(model), adapter=adapter)
    method = parse_method("ga")
    dataset = TripleDataset(triples(benchmark.records), method.rows, (), 0)
    batch = RowCollator(vlm, ImageCache(benchmark), method, 512)([dataset[item] for item in range(len(dataset))])
    with torch.no_grad():
        policy = answer_log_probs(vlm.model, batch)
    return -float(method.loss({"forget": select("forget", batch, policy, None)})[0])


def test_two_runs_with_one_seed_are_equal_to_the_bit_and_another_seed_is_not(unlearn):
    """With dropout on, and random state used up in between."""
    first = unlearn("a", "kl+pd")
    torch.rand(3), random.random()
    second = unlearn("b", "kl+pd")
    other = unlearn("c", "kl+pd", seed=8)
    assert hash_adapter(first) == hash_adapter(second) != hash_adapter(other)
    assert steps(first) == steps(second) != steps(other)


@pytest.mark.parametrize("rate", [None, 1e-4])
def test_the_projector_may_learn_at_a_rate_of_its_own(rate, unlearn, tiny_model):
    """Adam's first step moves a weight by its rate, whatever its gradient."""
    adapter = unlearn(".", "po+pd", steps=1, learning_rate=1e-2, weight_decay=0.0, projector_rate=rate)
    trained, base = weights(adapter), weights(tiny_model)
    of_projector = [name for name in trained if ".multi_modal_projector." in name]
    assert of_projector
    for name in of_projector:
        before = base[name.removeprefix("base_model.model.").replace("model.multi", "multi", 1)]
        assert (trained[name] - before).abs().max() == pytest.approx(rate or 1e-2, rel=1e-2)
    grown = [w.abs().max() for name, w in trained.items() if ".lora_B." in name]
    assert grown and all(w == pytest.approx(1e-2, rel=1e-2) for w in grown)


def test_a_gpu_that_the_trainer_would_not_train_on_is_refused(unlearn):
    with pytest.raises(UserError, match="give 'cuda' and set CUDA_VISIBLE_DEVICES=1"):
        unlearn(loading=ModelOptions(device="cuda:1"))


def test_a_rate_of_a_projector_that_has_no_weights_of_its_own_is_refused(unlearn):
    with pytest.raises(UserError, match="training.projector_rate: the projector is not tuned by its own weights"):
        unlearn(".", "po", steps=1, projector_rate=1e-4, lora=LoraOptions(rank=4, alpha=8.0, projector="frozen"))


@pytest.mark.parametrize("method", ["po+pd", "kl+pd", "dpo+rmu_retain"])
def test_accumulation_equals_a_large_batch(method, unlearn):
    """Batch 1 x accumulation 8 gives what batch 8 x 1 gives: every term is a mean over samples, not over tokens."""
    lora = LoraOptions(rank=4, alpha=8.0, dropout=0.0)
    whole = unlearn("whole", method, batch_size=8, lora=lora)
    parts = unlearn("parts", method, batch_size=1, accumulation=8, lora=lora)
    for one, other in zip(steps(whole), steps(parts), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    ours, theirs = weights(whole), weights(parts)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("method", ["ga", "po+pd", "kl+pd", "dpo+pd", "rmu", "undial+pd", "npo"])
def test_packed_rows_train_as_rows_one_by_one(method, unlearn, monkeypatch):
    """Log, gradient norm included, and adapter are equal, with triples of several pictures in a batch."""
    monkeypatch.setattr(prefix, "LEAST_SHARED", 16)
    packed = []
    pack = packing.pack
    monkeypatch.setattr(packing, "pack", lambda *given: packed.append(given) or pack(*given))
    lora = LoraOptions(rank=4, alpha=8.0, dropout=0.0)
    changes = {"lora": lora, "batch_size": 8, "group_by": "image"}
    together = unlearn("packed", method, **changes)
    assert packed
    packed.clear()
    apart = unlearn("apart", method, **changes, pack=False)
    assert not packed
    for one, other in zip(steps(together), steps(apart), strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    ours, theirs = weights(together), weights(apart)
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-3, atol=1e-5, msg=name)


def test_a_model_that_cannot_be_packed_is_trained_row_by_row_and_says_so(
    tiny_model: Path,
    benchmark: Benchmark,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    eager = ModelOptions(attention="eager")
    run(str(tiny_model), benchmark, parse_method("po"), OPTIONS, tmp_path / "small", lambda *_: None, eager)
    assert "one by one" not in capsys.readouterr().err  # a picture of 16 tokens is not worth a word
    monkeypatch.setattr(prefix, "LEAST_SHARED", 16)
    run(str(tiny_model), benchmark, parse_method("po"), OPTIONS, tmp_path / "large", lambda *_: None, eager)
    said = capsys.readouterr().err
    assert said.count("rows about one image go through it one by one, as its attention is eager") == 1


@pytest.mark.parametrize(("group_by", "together"), [("image", 4), ("pair", 2)])
def test_triples_about_one_picture_stay_together_where_asked_for(group_by: GroupBy, together: int) -> None:
    pictures = [f"{index // 4}.png" for index in range(24)]
    sampler = EpochSampler(24, 16, seed=0, pictures=pictures, group_by=group_by)
    orders = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert len(order) == 32 and sorted(order[:24]) == list(range(24)) and order[24:] == order[:8]
        seen = [pictures[index] for index in order]
        assert all(len(set(seen[start : start + together])) == 1 for start in range(0, 32, together))
        apart = sum(first != second for first, second in zip(seen[::2], seen[2::2], strict=False))
        assert (apart > 8) == (group_by == "pair")  # pairs about one picture are not neighbours
        orders.append(order)
    assert orders[0] != orders[1]


def test_what_may_move_moves_and_all_else_stays(unlearn, tiny_model):
    """Every LoRA matrix B leaves 0, the projector moves; with the adapter off, the model is the vanilla model."""
    adapter = unlearn()
    saved = weights(adapter)
    assert all(weight.isfinite().all() for weight in saved.values())
    moved = [weight.abs().max() > 0 for name, weight in saved.items() if "lora_B" in name]
    assert moved and all(moved)
    assert not any("vision" in name for name in saved)
    vanilla = dict(models.load(str(tiny_model)).model.named_parameters())
    trained = dict(models.load(str(tiny_model), adapter).model.named_parameters())
    base = {re.sub(r"base_model\.model\.|\.base_layer|\.original_module", "", n): p for n, p in trained.items()}
    assert vanilla.keys() <= base.keys()
    for name, parameter in vanilla.items():
        assert torch.equal(base[name], parameter), name
    projector = {name: p for name, p in trained.items() if "modules_to_save" in name}
    assert projector
    for name, parameter in projector.items():
        original = name.replace("modules_to_save.default", "original_module")
        assert not torch.equal(parameter, trained[original]), name


def test_pd_of_weight_0_equals_its_base(unlearn):
    base = unlearn("base", "po")
    zero = unlearn("zero", {"po": 1, "nll": 1, "pd": 0})
    assert hash_adapter(base) == hash_adapter(zero)


def test_the_loss_falls(unlearn):
    lines = steps(unlearn(".", steps=20, learning_rate=1e-2))
    for term in ("po", "nll", "pd"):
        assert lines[-1][term] < lines[0][term]


def test_rate_rises_then_falls_to_nothing(unlearn):
    """Ten steps with two of warm-up: 0, 1/2, then cosine from 1: the sixth step is at 4/8, cos(pi/2): 1/2."""
    lines = steps(unlearn(".", "ga", steps=10, warmup_ratio=0.2))
    rates = [line["learning_rate"] / OPTIONS.learning_rate for line in lines]
    assert rates[:3] == pytest.approx([0, 0.5, 1])
    assert rates[6] == pytest.approx(0.5)
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.05


def test_epochs_without_steps(unlearn):
    """24 triples at 4 a step: 6 steps an epoch, 9 steps in one and a half."""
    lines = steps(unlearn(".", "ga", steps=None, epochs=1.5))
    assert (len(lines), lines[-1]["epoch"]) == (9, 1.5)


def test_ascent_can_be_bounded_but_not_in_the_official_preset(unlearn):
    """No untrained answer has a cross-entropy below 0.01, so that each is beyond the bound: loss -0.01, no gradient."""
    terms = {"ascent_bound": 0.01}
    bounded = steps(unlearn("a", "ga", terms=terms))
    assert all(line["ga"] == pytest.approx(-0.01) and line["grad_norm"] == 0 for line in bounded)
    official = steps(unlearn("b", "ga", terms=terms, preset="official"))
    assert all(line["ga"] < -0.1 and line["grad_norm"] > 0 for line in official)


def test_progress_hears_every_step(tiny_model: Path, benchmark: Benchmark, tmp_path: Path) -> None:
    heard: list[tuple[int, int, list[str]]] = []
    run(
        str(tiny_model),
        benchmark,
        parse_method("po"),
        OPTIONS,
        tmp_path,
        lambda step, total, components: heard.append((step, total, sorted(components))),
    )
    assert heard == [(0, 3, []), *((step, 3, ["loss", "nll", "po", "tokens/s"]) for step in (1, 2, 3))]


@pytest.mark.parametrize(("terminal", "time"), [("1", r" .* 3/3 \d:\d\d:\d\d"), ("0", " 3/3")])
def test_terms_are_shown_where_nobody_listens(terminal, time, tiny_model, benchmark, tmp_path, capsys, monkeypatch):
    """On a terminal in a bar with the time left, else in a line."""
    monkeypatch.setenv("TTY_COMPATIBLE", terminal)  # read by rich
    monkeypatch.setenv("COLUMNS", "200")
    run(str(tiny_model), benchmark, parse_method("po"), OPTIONS, tmp_path)
    said = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(rf"unlearn po{time} loss \d+\.\d\d po \d+\.\d\d nll \d+\.\d\d", said)


def test_a_finished_adapter_is_kept_and_another_is_refused(unlearn, benchmark):
    adapter = unlearn()
    files = {file: file.stat().st_mtime_ns for file in adapter.iterdir()}
    assert unlearn() == adapter
    assert {file: file.stat().st_mtime_ns for file in adapter.iterdir()} == files
    with pytest.raises(UserError, match="made of something else.*seed: 7 there, 8 now.*another --out"):
        unlearn(".", seed=8)
    with pytest.raises(UserError, match="data_fingerprint: 'f1' there, 'f2' now"):
        unlearn(".", data=replace(benchmark, fingerprint="f2"))


def test_a_killed_run_started_again_ends_with_the_same_adapter(unlearn, tiny_model, benchmark, tmp_path):
    def kill(step: int, total: int, components: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(str(tiny_model), benchmark, parse_method("po+pd"), OPTIONS, tmp_path / "killed", kill)
    assert not (tmp_path / "killed" / "adapter").exists()
    leftover = tmp_path / "killed" / ".adapter.tmp"  # killed while saving
    leftover.mkdir()
    (leftover / "half.safetensors").write_bytes(b"x")
    again = unlearn("killed")
    whole = unlearn("whole")
    assert hash_adapter(again) == hash_adapter(whole)
    assert steps(again) == steps(whole)
    assert sorted(file.name for file in (tmp_path / "killed").iterdir()) == ["adapter", "train.jsonl"]


def test_a_loss_that_explodes_stops_the_run_with_step_term_and_advice(unlearn, tmp_path):
    with pytest.raises(UserError, match=r"(po|nll|gradient norm) became \S+ at step [2-9].*--training.learning_rate"):
        unlearn(".", "po", steps=9, learning_rate=1e30)
    assert not (tmp_path / "adapter").exists()


def without_safe_answers(benchmark: Benchmark) -> Benchmark:
    records = list(benchmark.records)
    records[2] = records[2].model_copy(update={"safe_image": None})
    return replace(benchmark, records=tuple(records))


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        (
            "po+pd",
            without_safe_answers,
            r"term 'pd' reads a safe image.*4 of 24 .*img/2.png, pair 1.*data complete",
        ),
        ("po", lambda b: replace(b, refusals=()), "no refusals: add prompt.json"),
        ("ga", lambda b: replace(b, records=()), "no train record"),
        ("ga", lambda b: replace(b, root=b.root / "none"), r"image 'img/0.png' is missing"),
    ],
)
def test_data_that_lack_what_a_method_reads_are_refused_before_training(
    method, change, message, unlearn, benchmark, tmp_path
):
    with pytest.raises(UserError, match=message):
        unlearn(".", method, model=tmp_path / "no-model", data=change(benchmark))


def test_methods_that_do_not_read_safe_images_do_not_need_them(unlearn, benchmark):
    assert unlearn(".", "po", data=without_safe_answers(benchmark), steps=1).exists()


def test_rmu_reads_the_layer_asked_for_where_answer_tokens_are_predicted(unlearn, tiny_llava, benchmark):
    """Of two layers, each has its own loss; one batch of all 24 triples costs the mean of what each costs alone."""
    vlm = models.load(str(tiny_llava))
    dataset = TripleDataset(triples(benchmark.records), ("forget",), (), 7)
    direction = torch.rand(32, generator=torch.Generator().manual_seed(7))
    target = 3.0 * direction / direction.norm()
    found = []
    for layer in (1, 2):
        costs = []
        for index in range(24):
            sample = dataset[index]["forget"]
            with Image.open(benchmark.image(sample.image)) as image:
                inputs, labels = chat.encode_samples(vlm, [image], [sample.question], [sample.answer], 512)
            with torch.no_grad():
                states = vlm.model(**inputs, output_hidden_states=True).hidden_states[layer][0]
            before = (labels[0] != chat.IGNORED).nonzero()[:, 0] - 1
            costs.append((states[before] - target).square().mean().item())
        options = {"rmu_layer": layer, "terms": {"rmu_coefficient": 3.0}, "steps": 1, "batch_size": 24}
        (line,) = steps(unlearn(str(layer), "rmu", model=tiny_llava, **options))
        assert line["rmu"] == pytest.approx(sum(costs) / 24, abs=1e-4)
        found.append(line["rmu"])
    assert found[0] != pytest.approx(found[1], abs=1e-2)


def test_a_layer_that_the_model_has_not_is_refused(unlearn, tiny_llava, tmp_path):
    with pytest.raises(UserError, match="training.rmu_layer: 3 was given; the language model has layers 1 to 2"):
        unlearn(".", "rmu", model=tiny_llava, rmu_layer=3)
    assert not (tmp_path / "train.jsonl").exists()


def test_the_sine_projector_moves_within_its_bound(unlearn, tiny_model):
    lora = replace(OPTIONS.lora, projector="sine")
    adapter = unlearn(".", lora=lora, learning_rate=0.1)
    deltas = {name: value for name, value in weights(adapter).items() if name.endswith(".original")}
    assert deltas and all(value.abs().max() > 0 for value in deltas.values())
    base, tuned = (models.merge(vlm) for vlm in (models.load(str(tiny_model)), models.load(str(tiny_model), adapter)))
    (projector,) = models.parts(base.model).projector
    for name, value in base.model.get_submodule(projector).named_parameters():
        moved = (tuned.model.get_submodule(projector).get_parameter(name) - value).abs()
        assert 0 < moved.max() <= 1


@pytest.mark.parametrize(
    "bad",
    [
        {"checkpoint_steps": 1.5},
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": -1.0},
        {"warmup_ratio": 1.0},
        {"epochs": math.nan},
    ],
)
def test_options_out_of_range_are_refused(bad, unlearn, tmp_path):
    with pytest.raises(UserError, match=f"training.{next(iter(bad))}: .* was given; give"):
        unlearn(".", model=tmp_path / "no-model", **bad)


def with_text(benchmark: Benchmark, **texts: str) -> Benchmark:
    """The same with other texts in the second pair of the third record."""
    record = benchmark.records[2]
    pairs = list(record.forget)
    pairs[1] = pairs[1].model_copy(update=texts)
    records = list(benchmark.records)
    records[2] = record.model_copy(update={"forget": tuple(pairs)})
    return replace(benchmark, records=tuple(records))


@pytest.mark.parametrize(
    ("field", "said"),
    [("question", "forget question"), ("unsafe_answer", "forget answer"), ("safe_answer", "decouple answer")],
)
def test_a_text_that_cannot_be_encoded_is_refused_with_record_and_field(field, said, unlearn, benchmark, tmp_path):
    with pytest.raises(UserError, match=rf"record r2, pair 1, {said}: .*holds '\\ud83d', which is no character"):
        unlearn(".", "ga+pd", data=with_text(benchmark, **{field: "half a \ud83d"}))
    assert not (tmp_path / "adapter").exists()


def test_marks_of_the_model_in_the_data_are_trained_as_text(unlearn, benchmark):
    marked = with_text(benchmark, question="<image>\nHow?", unsafe_answer="First <image>.</s> Then.", safe_answer="<s>")
    adapter = unlearn(".", "ga+pd", data=marked, steps=2, batch_size=24)
    assert all(math.isfinite(line["loss"]) for line in steps(adapter))


def test_an_image_that_is_no_image_is_named(unlearn, benchmark, tmp_path):
    root = tmp_path / "data"
    (root / "img").mkdir(parents=True)
    for number in range(6):
        (root / "img" / f"{number}.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"image 'img/\d.png' cannot be read"):
        unlearn("out", "ga", data=replace(benchmark, root=root))


def test_a_batch_divided_by_length_says_the_same_of_every_row(tiny_model, benchmark, monkeypatch):
    """36 rows in three parts of 12: less padding, equal log-probabilities and distributions."""
    vlm = models.load(str(tiny_model))
    method = parse_method("kl+pd")
    dataset = TripleDataset(triples(benchmark.records), method.rows, (), 0)
    collate = RowCollator(vlm, ImageCache(benchmark), method, 512)
    divided = collate([dataset[index] for index in range(12)])
    monkeypatch.setattr("safeeraser.unlearn.batch.PART_ROWS", 100)
    whole = collate([dataset[index] for index in range(12)])
    assert [len(batch["parts"]) for batch in (divided, whole)] == [3, 1]
    sizes = [sum(part["labels"].numel() for part in batch["parts"]) for batch in (divided, whole)]
    assert sizes[0] < 0.9 * sizes[1]
    with torch.no_grad():
        said, expected = (answer_log_probs(vlm.model, batch, method.needs) for batch in (divided, whole))
    assert torch.equal(said.mask, expected.mask)
    torch.testing.assert_close(said.answer, expected.answer)
    torch.testing.assert_close(said.logits, expected.logits)


def test_refusals_change_with_epoch_and_seed_only(benchmark: Benchmark) -> None:
    made = triples(benchmark.records)

    def refusals(seed: int, epoch: int) -> list[str]:
        dataset = TripleDataset(made, ("refusal", "retain"), benchmark.refusals, seed)
        dataset.set_epoch(epoch)
        return [dataset[index]["refusal"].answer for index in range(len(dataset))]

    assert refusals(0, 0) == refusals(0, 0)
    assert refusals(0, 0) != refusals(0, 1) and refusals(0, 0) != refusals(1, 0)
    assert set(refusals(0, 0)) == set(benchmark.refusals)


def test_an_item_pairs_the_rows_of_one_record_and_question(benchmark: Benchmark) -> None:
    made = triples(benchmark.records)
    item = TripleDataset(made, ("forget", "retain", "decouple"), (), 0)[5]
    record = benchmark.records[1]
    assert item == {
        "forget": Sample(record.image, record.forget[1].question, record.forget[1].unsafe_answer),
        "retain": Sample(record.image, record.retain[1].question, record.retain[1].answer),
        "decouple": Sample(record.safe_image, record.forget[1].question, record.forget[1].safe_answer),
    }


def test_a_batch_holds_all_rows_of_a_kind_then_the_next_and_the_reference_its_own(tiny_model, benchmark):
    vlm = models.load(str(tiny_model))
    method = parse_method("kl+pd")
    dataset = TripleDataset(triples(benchmark.records), method.rows, (), 0)
    items = [dataset[0], dataset[9]]
    batch = RowCollator(vlm, ImageCache(benchmark), method, 512)(items)
    assert batch["role"].tolist() == [0, 0, 2, 2, 3, 3]
    assert batch["reference"]["role"].tolist() == [2, 2]

    def answers(part: dict[str, Any]) -> list[str]:
        rows = [row[row >= 0] for labels in part["parts"] for row in labels["labels"]]
        rows = [rows[place] for place in part["order"]]
        return [vlm.processor.tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows]

    expected = [item[rows].answer for rows in method.rows for item in items]
    assert answers(batch) == expected
    assert answers(batch["reference"]) == expected[2:4]


def test_activations_computed_twice_change_no_bit(unlearn):
    """Dropout draws the same again."""
    kept = unlearn("kept", "kl+pd")
    twice = unlearn("twice", "kl+pd", gradient_checkpointing=True)
    assert hash_adapter(kept) == hash_adapter(twice)


def test_a_cached_reference_changes_nothing_but_rounding(unlearn):
    """Nine steps of four triples: one and a half epochs, the last three steps read what was kept."""
    asked = unlearn("asked", "npo+pd", steps=9)
    cached = unlearn("cached", "npo+pd", steps=9, cache_reference=True)
    ours, theirs = weights(asked), weights(cached)
    for name, weight in ours.items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-5, msg=name)
    with pytest.raises(UserError, match="cache_reference: kl reads more of the reference"):
        unlearn("kl", "kl+pd", cache_reference=True)


def test_a_reference_is_run_once_per_sample(tiny_model: Path, benchmark: Benchmark) -> None:
    vlm = models.load(str(tiny_model))
    method = parse_method("npo")
    dataset = TripleDataset(triples(benchmark.records), method.rows, (), 0)
    collate = RowCollator(vlm, ImageCache(benchmark), method, 512)
    cache, runs = ReferenceCache(), []

    def said(items: list[int]) -> chat.AnswerLogProbs:
        batch = collate([dataset[item] for item in items])["reference"]

        def compute() -> chat.AnswerLogProbs:
            runs.append(items)
            with torch.no_grad():
                return answer_log_probs(vlm.model, batch)

        return cache.get(batch, compute)

    first, again, other = said([0, 1, 2]), said([2, 0]), said([0, 3])
    assert runs == [[0, 1, 2], [0, 3]]
    assert torch.equal(again.answer[0][again.mask[0]], first.answer[2][first.mask[2]])
    assert torch.equal(other.answer[0][other.mask[0]], first.answer[0][first.mask[0]])
    assert again.mask.sum(1).tolist() == first.mask.sum(1)[[2, 0]].tolist()


def test_what_is_trained_is_float32_and_a_float16_checkpoint_is_not_trained_in_it(
    unlearn, tiny_model, benchmark, tmp_path, capsys
):
    for dtype in (torch.bfloat16, torch.float16):
        vlm = models.load(str(tiny_model))
        vlm.model.to(dtype).save_pretrained(tmp_path / str(dtype))
        vlm.processor.save_pretrained(tmp_path / str(dtype))
    adapter = unlearn("a", "kl+pd", model=tmp_path / "torch.bfloat16")
    full = unlearn("b", "kl+pd")
    assert {weight.dtype for weight in weights(adapter).values()} == {torch.float32}
    for one, other in zip(steps(adapter), steps(full), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=0.05)
    with pytest.raises(UserError, match=r"float16, which overflows.*dtype bfloat16"):
        run(
            str(tmp_path / "torch.float16"), benchmark, parse_method("po+pd"), OPTIONS, tmp_path / "c", lambda *_: None,
            ModelOptions(dtype="float16"),
        )  # fmt: skip
    # this machine has no GPU that computes in bfloat16: in float32, from the rounded weights
    half = unlearn("d", "kl+pd", model=tmp_path / "torch.float16")
    assert "is float16, in which training overflows: it is trained in float32" in capsys.readouterr().err
    for one, other in zip(steps(half), steps(full), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=0.05)


def test_a_tracker_gets_loss_and_terms(unlearn, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    adapter = unlearn(".", tracker="tensorboard")
    (folder,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    for name in ("loss", "po", "nll", "pd"):
        logged = [event.value for event in events.Scalars(f"train/{name}")]
        assert logged == pytest.approx([line[name] for line in steps(adapter)])
    for tracker in ("wandb", "trackio"):
        if importlib.util.find_spec(tracker) is None:
            with pytest.raises(UserError, match=f"tracker '{tracker}' is not installed: run 'pip install {tracker}'"):
                unlearn(tracker, tracker=tracker)


def test_an_epoch_is_filled_up_to_whole_steps(unlearn):
    """24 triples at 16 a step: two steps an epoch, and the rate ends at the last of four."""
    lines = steps(unlearn(".", "po", steps=None, epochs=2, batch_size=16))
    assert [line["epoch"] for line in lines] == [0.5, 1.0, 1.5, 2.0]
    assert [line["learning_rate"] / OPTIONS.learning_rate for line in lines] == pytest.approx(
        [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    )
