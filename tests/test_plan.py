"""What ``safeeraser plan`` says, against what happens: bytes that autograd keeps, steps that the trainer takes."""

import re
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from safeeraser import cli, data, models, objectives, plan
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.data import Benchmark
from safeeraser.models import adapters, chat, lean_lora
from safeeraser.plan.memory import layer_bytes, logits_bytes
from safeeraser.unlearn import run
from tiny_benchmark import tiny_benchmark

ROWS, LENGTH, ANSWER = 3, 40, 10
VISION = CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
WORK = plan.Work(rows=ROWS, reference_rows=0, kept_distributions=0, text=LENGTH, answer=ANSWER, answers_span=ANSWER)


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
        vlm = models.VisionLanguageModel("random", model, None, models.FAMILIES.get("llava"))
        vlm = adapters.attach(vlm, lora)
        if lean:
            lean_lora.make_lean(vlm.model)
        vlm.model.train()
        found.append(kept_bytes(vlm, bf16))
    sizes = replace(plan.measure(str(tmp_path), lora, 32, 32), image_tokens=0)
    said = layer_bytes(sizes, WORK, 2 if bf16 else 4, 8 * dropout if lean else 4, lean)
    assert found[1] - found[0] == pytest.approx(said, rel=2e-3 if dropout and lean else 0)


@pytest.mark.parametrize("name", models.FAMILIES.names())
def test_every_family_can_be_planned(name: str, tiny_folders: dict[str, Path]) -> None:
    """Counts are the loaded model's with an adapter."""
    lora = LoraOptions(rank=4)
    sizes = plan.measure(str(tiny_folders[name]), lora, 64, 64)
    vlm = models.load(str(tiny_folders[name]))
    assert sizes.parameters == sum(parameter.numel() for parameter in vlm.model.parameters())
    attached = adapters.attach(vlm, lora).model
    assert sizes.trainable == sum(p.numel() for p in attached.parameters() if p.requires_grad)
    assert sizes.lora_layers == sum(".lora_A." in key for key, _ in attached.named_parameters())
    assert all(sizes.parts[part] > 0 for part in ("vision tower", "projector", "language model"))
    assert plan.peak(sizes, WORK).weights > plan.peak(sizes, WORK, "8bit").weights
    assert plan.peak(sizes, WORK, "8bit").total > plan.peak(sizes, WORK, "4bit").total


def test_presets_are_the_published_models() -> None:
    """The hub says 7.06B and 13.35B; trainable as in tests/models/test_loading.py."""
    small, large = (plan.measure(name, LoraOptions(), 336, 336) for name in plan.PRESETS)
    assert (small.parameters, large.parameters) == (7_063_427_072, 13_351_494_656)
    assert (small.trainable, large.trainable) == (100_933_632, 156_641_280)
    assert (small.image_tokens, small.lora_layers, large.lora_layers) == (576, 224, 280)


def test_checkpointing_and_fewer_bits_take_less_and_more_rows_more() -> None:
    sizes = plan.measure("llava-1.5-7b", LoraOptions(), 336, 336)
    plain, small = plan.peak(sizes, WORK), plan.peak(sizes, WORK, checkpointing=True)
    assert small.activations < plain.activations / 5 and small.weights == plain.weights
    assert plain.total > plan.peak(sizes, WORK, "8bit").total > plan.peak(sizes, WORK, "4bit").total
    double = plan.peak(sizes, replace(WORK, rows=2 * ROWS))
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
    said = plan.reckon(benchmark, made, options, GenerationOptions(), 1).steps
    run(str(tiny_model), benchmark, objectives.parse_method("ga"), options, tmp_path / "out", lambda *_: None)
    assert len((tmp_path / "out" / "train.jsonl").read_text().splitlines()) == said


@pytest.fixture(scope="module")
def pictogram() -> Benchmark:
    return data.load("pictogram")


def test_the_papers_protocol_takes_48_000_answers_and_76_800_calls(pictogram: Benchmark) -> None:
    made = data.triples(pictogram.split("train"))
    without_probes = replace(pictogram, probes=())
    costs = plan.reckon(without_probes, made, UnlearnOptions(), GenerationOptions(), 1)
    assert (costs.paper.answers, costs.paper.calls) == (48_000, 76_800)
    assert (costs.triples, costs.steps) == (7_200, 4_500)
    assert costs.here.answers == len(data.queries(without_probes, "greedy"))
    assert costs.paper.cost(1.0, 0.0) == pytest.approx(costs.paper.tokens_in / 1e6)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge_price", "cheap"], "--judge_price cheap: give two numbers"),
        (["--judge_price=-1,2"], "prices cannot be negative"),
        (["--processes", "0"], "processes: 0 was given"),
        (["--model", "llava-1.5-8b"], "unknown model 'llava-1.5-8b': give .*llava-1.5-13b"),
        (["--method", "popd"], "popd"),
    ],
)
def test_wrong_input_is_said_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plan", *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
