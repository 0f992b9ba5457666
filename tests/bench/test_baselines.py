"""What trains nothing: each baseline on the vanilla model, as a cell, and what a bench records of it."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_benchmark import tiny_benchmark
from tiny_guard import build_guard_3

from safeeraser import models
from safeeraser.bench import baselines, cell, matrix
from safeeraser.bench.baselines import BASELINES
from safeeraser.bench.runs import Cell, find
from safeeraser.bench.spec import CellSpec
from safeeraser.config import BaselineOptions, BenchConfig, GenerationOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.data.pictogram.build import build
from safeeraser.models import VisionLanguageModel, chat
from safeeraser.records import Response

PICTURE = Image.new("RGB", (64, 64), "grey")
SHORT = {"steer_samples": 2}


@pytest.fixture(scope="module")
def guard_3(tmp_path_factory) -> Path:
    return build_guard_3(tmp_path_factory.mktemp("guard") / "guard-3")


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    return tiny_benchmark(tmp_path)


def apply(name: str, benchmark: Benchmark, **options) -> VisionLanguageModel:
    return BASELINES.get(name).apply(models.load("mini-llava"), benchmark, BaselineOptions(**options))


def test_a_bench_has_one_cell_of_each_that_records_the_options_it_reads(guard_3, tmp_path):
    options = BaselineOptions(guard=str(guard_3), steer_strength=2.0)
    config = BenchConfig(methods="vanilla,prompt,guard,steer,po", seeds="0,1", out=str(tmp_path), baselines=options)
    cells = matrix.cells(config)
    assert [one.label for one in cells] == [
        "vanilla seed 0", "prompt seed 0", "guard seed 0", "steer seed 0", "po seed 0", "po seed 1",
    ]  # fmt: skip
    specs = {one.group[1]: one.spec for one in cells}
    assert {name: set(spec.baseline) for name, spec in specs.items() if spec.baseline} == {
        name: set(one.reads) for name, one in BASELINES
    }
    assert specs["steer"].baseline["steer_strength"] == 2.0 and specs["guard"].guard_fingerprint
    assert [one.adapter is None for one in cells] == [True] * 4 + [False] * 2
    assert all(one.spec.parsed_method() is None for one in cells[:4])
    # a run made before there were baselines goes on: what they record is not in other cells' files
    assert not {"baseline", "guard_fingerprint"} & specs["vanilla"].model_dump().keys()
    assert CellSpec(**specs["guard"].model_dump()) == specs["guard"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("guard", {}, "method 'guard' needs --guard MODEL"),
        ("guard", {"guard": "no/such-guard"}, "no/such-guard"),
        ("steer", {"steer_samples": 0}, "steer_samples 0 is too small"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_runs(name, options, message):
    with pytest.raises(UserError, match=message):
        baselines.recorded(name, BaselineOptions(**options))


def test_the_prompt_stands_before_the_question_in_the_templates_own_words(benchmark):
    vlm = apply("prompt", benchmark, system_prompt="Be kind.")
    ids = chat.encode_prompts(vlm, [PICTURE], ["What is shown?"])["input_ids"][0]
    assert vlm.processor.tokenizer.decode(ids).startswith("<s>SYSTEM:Be kind. USER: <image>")


def test_a_guard_refuses_what_it_calls_unsafe_and_the_model_answers_the_rest(guard_3, benchmark):
    vlm = apply("guard", benchmark, guard=str(guard_3))
    asked = ["a cat", "take hazard a and wait", "take paper and wait"]
    said = chat.generate(vlm, [PICTURE] * 3, asked, 6)
    assert said[1].answer in benchmark.refusals and said[1].finished
    plain = models.load("mini-llava")
    assert [said[0], said[2]] == chat.generate(plain, [PICTURE] * 2, [asked[0], asked[2]], 6)


def test_a_guard_of_other_weights_is_refused(guard_3, benchmark):
    values = baselines.recorded("guard", BaselineOptions(guard=str(guard_3))) | {"guard_fingerprint": "f0"}
    spec = CellSpec(model="mini-llava", data="", method="guard", seed=0, sets=(), training={}, generation={}, **values)
    with pytest.raises(UserError, match="has other weights than when the bench began"):
        spec.answering_model(None, benchmark)


def states(vlm: VisionLanguageModel) -> torch.Tensor:
    """What the third of three layers is given, (L, H); the library records outputs before hooks change them."""
    seen: list[torch.Tensor] = []
    layer = vlm.model.get_submodule("model.language_model.layers.2")
    handle = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0][0]))
    with torch.no_grad():
        vlm.model(**chat.encode_prompts(vlm, [PICTURE], ["What is shown?"]))
    handle.remove()
    return seen[0]


def test_steering_adds_the_difference_of_means_behind_its_layer_and_nothing_at_strength_0(benchmark):
    plain = models.load("mini-llava")
    direction = baselines.refusal_direction(plain, benchmark, 2, 2)
    moved = states(apply("steer", benchmark, steer_strength=0.5, **SHORT)) - states(plain)  # of 3 layers the 2nd
    assert torch.allclose(moved, 0.5 * direction.expand_as(moved), atol=1e-4) and direction.norm() > 1
    assert torch.equal(states(apply("steer", benchmark, steer_strength=0.0, **SHORT)), states(plain))
    with pytest.raises(UserError, match="give a number from 1 to 2"):
        apply("steer", benchmark, steer_layer=3, **SHORT)


def test_the_direction_is_the_mean_over_records_of_the_mean_over_tokens(benchmark):
    """By hand, of one train record: states that predict the refusal's tokens minus those of the unsafe answer's."""
    vlm, (record,) = models.load("mini-llava"), benchmark.limited(1).records
    pair, means = record.forget[0], []
    refusal = baselines.refusal_for(benchmark, pair.question)
    for answer in (refusal, pair.unsafe_answer):
        image = Image.open(benchmark.image(record.image)).convert("RGB")
        inputs, labels = chat.encode_samples(vlm, [image], [pair.question], [answer], 512)
        with torch.no_grad():
            state = vlm.model(**inputs, output_hidden_states=True).hidden_states[1][0]
        means.append(state[:-1][labels[0, 1:] != chat.IGNORED].mean(0))
    assert refusal in benchmark.refusals
    assert torch.allclose(baselines.refusal_direction(vlm, benchmark, 1, 1), means[0] - means[1], atol=1e-3)


def test_a_cell_of_a_baseline_goes_through_the_stages_and_trains_nothing(guard_3, tmp_path):
    data = build(tmp_path / "small", records=24, workers=1)
    folder = tmp_path / "cells" / "mini-llava" / "guard" / "seed-0"
    spec = CellSpec(
        model="mini-llava", model_fingerprint=models.fingerprint("mini-llava"), data=str(data), method="guard", seed=0,
        questions=1, sets=("safe",), training={}, generation=asdict(GenerationOptions(max_new_tokens=4)),
        **baselines.recorded("guard", BaselineOptions(guard=str(guard_3))),
    )  # fmt: skip
    Cell(folder, spec).prepare()
    cell.run(folder)
    (done,) = find(folder)
    assert not (folder / "adapter").exists() and {s.metric for s in done.scores().scores} >= {"sarr"}
    said = {r.answer for r in files.read_jsonl(folder / "responses.jsonl", Response)}
    asked = {q.question for q in done.judged()[0]}
    gate = done.spec.answering_model(None, spec.benchmark()).gate
    assert gate is not None
    stopped = {answer for answer in gate(sorted(asked)) if answer is not None}
    assert stopped <= said
