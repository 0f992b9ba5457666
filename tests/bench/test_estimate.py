"""What ``safeeraser plan`` says, against what happens: bytes that autograd keeps, steps that the trainer takes."""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_benchmark import tiny_benchmark
from tiny_families import TINY_BUILDERS
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from safeeraser import cli, data, models, objectives
from safeeraser.bench import estimate
from safeeraser.bench.estimate.compute import answering_flops
from safeeraser.bench.estimate.memory import layer_bytes, logits_bytes
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.data import Benchmark
from safeeraser.models import adapters, chat, lean_lora
from safeeraser.unlearn.stage import run

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ROWS, LENGTH, ANSWER = 3, 40, 10
VISION = CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
WORK = estimate.Workload(
    rows=ROWS, reference_rows=0, kept_distributions=0, text=LENGTH, answer=ANSWER, answers_span=ANSWER
)


def kept_bytes(vlm: models.VisionLanguageModel, bf16: bool) -> int:
    """Bytes of all tensors that autograd keeps of a forward pass, weights apart; each storage once."""
    torch.manual_seed(0)
    batch = {"input_ids": torch.randint(0, 300, (ROWS, LENGTH)), "attention_mask": torch.ones(ROWS, LENGTH).long()}
    batch["attention_mask"][0, -3:] = 0
    labels = torch.full((ROWS, LENGTH), chat.IGNORED)
    labels[:, -ANSWER:] = 5
    weights = {parameter.untyped_storage().data_ptr() for parameter in vlm.model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        said = chat.answer_log_probs(vlm.model, batch, labels)
    found = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in weights)
    del said
    return found


# not of PEFT's own in float32 without dropout, which share inputs too: the formula is for quantised weights there
KINDS = [kind for kind in product((False, True), (0.05, 0.0), (False, True)) if any(kind)]


@pytest.mark.parametrize(("bf16", "dropout", "lean"), KINDS)
@pytest.mark.parametrize("key_value_heads", [4, 2])
def test_the_bytes_of_a_layer_are_those_that_autograd_keeps(
    key_value_heads: int, bf16: bool, dropout: float, lean: bool, tmp_path: Path
) -> None:
    """What four layers keep more than three: exactly, but for dropout's indices, 8 bytes for each entry dropped.

    PEFT's own layers, with torch's dropout, keep four bytes an entry on a CPU.
    """
    found, lora = [], LoraOptions(rank=8, dropout=dropout)
    for layers in (3, 4):
        text = LlamaConfig(
            hidden_size=64, intermediate_size=160, num_attention_heads=4, num_key_value_heads=key_value_heads,
            num_hidden_layers=layers, vocab_size=400,
        )  # fmt: skip
        config = LlavaConfig(vision_config=VISION, text_config=text, image_token_index=399)
        config.save_pretrained(tmp_path)
        model = LlavaForConditionalGeneration(config).to(torch.bfloat16 if bf16 else torch.float32)
        vlm = models.VisionLanguageModel("random", model, None)
        vlm = adapters.attach(vlm, lora)
        if lean:
            lean_lora.make_lean(vlm.model)
        vlm.model.train()
        found.append(kept_bytes(vlm, bf16))
    sizes = replace(estimate.measure(str(tmp_path), lora, 32, 32), image_tokens=0)
    said = layer_bytes(sizes, WORK, 2 if bf16 else 4, 8 * dropout if lean else 4, lean)
    assert found[1] - found[0] == pytest.approx(said, rel=2e-3 if dropout and lean else 0)


@pytest.mark.parametrize("name", sorted(TINY_BUILDERS))
def test_every_family_can_be_planned(name: str, tiny_folders: dict[str, Path]) -> None:
    """Counts are the loaded model's with an adapter."""
    lora = LoraOptions(rank=4)
    sizes = estimate.measure(str(tiny_folders[name]), lora, 64, 64)
    vlm = models.load(str(tiny_folders[name]))
    assert sizes.parameters == sum(parameter.numel() for parameter in vlm.model.parameters())
    attached = adapters.attach(vlm, lora).model
    assert sizes.trainable == sum(p.numel() for p in attached.parameters() if p.requires_grad)
    assert sizes.lora_layers == sum(".lora_A." in key for key, _ in attached.named_parameters())
    assert all(sizes.parts[part] > 0 for part in ("vision tower", "projector", "language model"))
    assert estimate.peak(sizes, WORK).weights > estimate.peak(sizes, WORK, "8bit").weights
    assert estimate.peak(sizes, WORK, "8bit").total > estimate.peak(sizes, WORK, "4bit").total


def test_presets_are_the_published_models() -> None:
    """The hub says 7.06B and 13.35B; trainable as in tests/models/test_loading.py."""
    small, large = (estimate.measure(name, LoraOptions(), 336, 336) for name in estimate.PRESETS)
    assert (small.parameters, large.parameters) == (7_063_427_072, 13_351_494_656)
    assert (small.trainable, large.trainable) == (100_933_632, 156_641_280)
    assert (small.image_tokens, small.lora_layers, large.lora_layers) == (576, 224, 280)


def test_checkpointing_and_fewer_bits_take_less_and_more_rows_more() -> None:
    sizes = estimate.measure("llava-1.5-7b", LoraOptions(), 336, 336)
    plain, small = estimate.peak(sizes, WORK), estimate.peak(sizes, WORK, checkpointing=True)
    assert small.activations < plain.activations / 5 and small.weights == plain.weights
    assert plain.total > estimate.peak(sizes, WORK, "8bit").total > estimate.peak(sizes, WORK, "4bit").total
    double = estimate.peak(sizes, replace(WORK, rows=2 * ROWS))
    assert 1.9 < double.activations / plain.activations < 2.1
    with_kl = replace(WORK, reference_rows=1, kept_distributions=1)
    assert logits_bytes(sizes, with_kl, 2) > logits_bytes(sizes, WORK, 2)


@pytest.mark.parametrize(("batch", "accumulation", "epochs"), [(5, 2, 1.5), (4, 1, 1.0), (16, 3, 2.0)])
def test_steps_are_those_of_the_trainer(
    batch: int, accumulation: int, epochs: float, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    benchmark = tiny_benchmark(tmp_path / "data")
    options = UnlearnOptions(
        batch_size=batch, accumulation=accumulation, epochs=epochs, lora=LoraOptions(rank=4, alpha=8.0)
    )
    made = data.triples(benchmark.split("train"))
    said = estimate.estimate_costs(benchmark, made, options, GenerationOptions(), 1).steps
    run(str(tiny_model), benchmark, objectives.parse_method("ga"), options, tmp_path / "out", lambda *_: None)
    assert len((tmp_path / "out" / "train.jsonl").read_text().splitlines()) == said


@pytest.fixture(scope="module")
def pictogram() -> Benchmark:
    return data.load("pictogram")


def test_the_papers_protocol_takes_48_000_answers_and_76_800_calls(pictogram: Benchmark) -> None:
    made = data.triples(pictogram.split("train"))
    without_probes = replace(pictogram, probes=())
    costs = estimate.estimate_costs(without_probes, made, UnlearnOptions(), GenerationOptions(), 1)
    assert (costs.paper.answers, costs.paper.calls) == (48_000, 76_800)
    assert (costs.triples, costs.steps) == (7_200, 2_250)
    assert costs.here.answers == len(data.queries(without_probes, "greedy"))
    assert costs.paper.cost(1.0, 0.0) == pytest.approx(costs.paper.tokens_in / 1e6)


def test_questions_without_an_image_are_counted(pictogram: Benchmark) -> None:
    """168 answers of knowledge, 113 of text_orr, which alone is judged; each answer may run to the limit."""
    made = data.triples(pictogram.split("train"))
    without, texts = (
        estimate.estimate_costs(pictogram, made, UnlearnOptions(), GenerationOptions(max_new_tokens=48), 1, asked).here
        for asked in ((), data.text_queries())
    )
    assert (texts.answers - without.answers, texts.calls - without.calls) == (281, 113)
    grown = texts.lengths.answer * texts.answers - without.lengths.answer * without.answers
    assert grown == pytest.approx(281 * 48)


def test_the_command_prints_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--processes", "2", "--judge_price", "1,0"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(["plan", "--model", "llava-1.5-7b", "--method", "kl+pd", *flags]) == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "7.06B parameters" in text and "trainable: 100.93M, 1.41%" in text
    assert "7,200 train triples; 2,250 optimizer steps of 32 triples (1 x 16 x 2 GPU)" in text
    for kind in ("bf16", "8 bit", "4 bit"):
        assert kind in text
    assert "48,000 answers, 76,800 judgements" in text and "assumed: $1 and $0 per million tokens" in text
    assert "hours on 2" in text and "the 9 of a bench" in text and "h100: 989.4 TFLOP/s, of which 25 %" in text
    assert "packed, 1.5 rows to a picture (--pack, --group_by none)" in text


def test_hours_are_operations_over_what_a_card_does(tmp_path: Path) -> None:
    sizes = estimate.measure("llava-1.5-7b", LoraOptions(), 336, 336)
    lengths = estimate.Lengths(text=120, answer=80)
    # 6.6B weights of the layers x 4, LoRA x 6, the head's 131M x 4 at answers, the tower's 0.3B x 2; attention apart
    by_hand = 3 * (696 * (4 * 6.476e9 + 6 * 79.95e6) + 80 * 4 * 131.3e6 + 576 * 2 * 303.5e6 + 576 * 6 * 20.98e6)
    by_hand += 3 * 32 * 12 * 4096 * 696**2
    known = estimate.rates("a100-80gb", None, False, 1)
    seconds = known.training_seconds(sizes, lengths, 10, 3, 0, False)
    starts = 10 * 32 * 0.009
    assert seconds == pytest.approx(10 * by_hand / (0.25 * 312e12) + starts, rel=0.01)
    twice = known.training_seconds(sizes, lengths, 10, 3, 0, True)
    assert twice - starts == pytest.approx(1.5 * (seconds - starts), rel=0.03)
    four = known.training_seconds(sizes, lengths, 10, 3, 0, False, 4)
    assert four == pytest.approx(seconds - 3 / 4 * starts)

    rows = {"po+pd, 1 at once": 100, "kl+pd, 1 at once": 300, "po+pd, 4 at once, checkpointing": 400}
    trained = {name: {"TFLOP/s": rate} for name, rate in rows.items()} | {"po+pd, 8 at once": {"plan GiB": 130}}
    tables = {"training, ours": trained, "answering": {"8 at once, 128 tokens": {"TFLOP/s": 20}}}
    (tmp_path / "gpu.json").write_text(json.dumps({"card": {"card": "A card"}, "tables": tables}))
    measured = estimate.rates("unread", str(tmp_path / "gpu.json"), False, 16)
    assert (measured.training, measured.title.partition(",")[0]) == (200e12, "A card")
    assert estimate.rates("unread", str(tmp_path / "gpu.json"), True, 16).training == 400e12
    flops = answering_flops(sizes, 40, 80)
    assert measured.answering_seconds(sizes, lengths, 1000, 16) == pytest.approx(1000 * flops / 20e12)


def test_without_answers_a_measurement_still_plans_from_the_speed_of_its_memory() -> None:
    rates = estimate.rates("unread", str(RESULTS / "gpu-training.json"), False, 4)
    assert rates.training == 163e12 and "answers from the speed of its memory" in rates.title
    assert rates.card is not None and (rates.card.tflops, rates.card.gigabytes_a_second) == (775, 2954)


def test_rows_that_share_a_picture_are_those_of_a_batch(pictogram: Benchmark) -> None:
    """PO+PD reads two rows about the unsafe picture and one about the safe one; a record has four triples."""
    sizes = estimate.measure("llava-1.5-7b", LoraOptions(), 336, 336)
    made, method = data.triples(pictogram.split("train")), objectives.parse_method("kl+pd")

    def shared(**options: object) -> tuple[float, float]:
        return estimate.rows_a_picture(method, made, sizes, UnlearnOptions(**options), 4)

    assert shared() == (1.5, 1.0) and shared(pack=False) == (1.0, 1.0)
    assert shared(group_by="image") == (6.0, 4.0)  # 12 rows on 2 pictures; 4 of the reference on 1
    small = estimate.measure("mini-llava", LoraOptions(), 64, 64)
    assert estimate.rows_a_picture(method, made, small, UnlearnOptions(), 4) == (1.0, 1.0)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], tuple[estimate.Sizes, Any]]:
    """Sizes of the model that benchmarks/gpu.py measured, and what went through it at once."""
    monkeypatch.syspath_prepend(str(RESULTS.parent))
    import gpu_model
    import gpu_training

    sizes = gpu_model.sizes(gpu_model.PAPER)
    texts = gpu_model.Texts(gpu_model.PAPER)
    return lambda name, batch: (sizes, gpu_training.load_of(texts, objectives.parse_method(name), batch))


@pytest.mark.parametrize(
    ("name", "batch", "twice", "packed"),
    [("po+pd", 4, False, False), ("po+pd", 4, False, True), ("kl+pd", 4, False, True), ("po+pd", 16, True, False),
     ("po+pd", 16, True, True)],
)  # fmt: skip
def test_memory_and_speed_are_near_what_an_h100_measured(
    name: str, batch: int, twice: bool, packed: bool, measured: Callable[[str, int], tuple[estimate.Sizes, Any]]
) -> None:
    table = json.loads((RESULTS / "gpu-shared.json").read_text())["tables"]["training, four triples a picture"]
    row = table[f"{name}, {batch} at once" + ", checkpointing" * twice + ", packed" * packed]
    sizes, load = measured(name, batch)
    shared = (6.0, 4.0) if packed else (1.0, 1.0)
    said = estimate.peak(sizes, replace(load.work, shared=shared[0]), checkpointing=twice).total / 2**30
    assert 0.99 < said / row["peak GiB"] < 1.2
    rows, references = load.work.rows / batch, load.work.reference_rows / batch
    lengths = estimate.Lengths(load.text, load.answer)
    rates = estimate.rates("h100", None, twice, batch)
    seconds = rates.training_seconds(sizes, lengths, 1, rows, references, twice, batch, shared)
    # KL compares whole distributions, which are read and written, not multiplied
    assert (0.45 if name == "kl+pd" else 0.75) < seconds * row["triples/s"] < 1.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge_price", "cheap"], "--judge_price cheap: give two numbers"),
        (["--judge_price=-1,2"], "prices cannot be negative"),
        (["--processes", "0"], "processes: 0 was given"),
        (["--gpu", "h1000"], "gpu 'h1000' is unknown: give one of a100-40gb, "),
        (["--gpu_price=-1"], "--gpu_price -1.0: prices cannot be negative"),
        (["--throughput", "pyproject.toml"], "pyproject.toml"),
        (["--model", "llava-1.5-8b"], "unknown model 'llava-1.5-8b': give .*llava-1.5-13b"),
        (["--method", "popd"], "popd"),
    ],
)
def test_wrong_input_is_said_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
