"""Damaged at random, what is read is refused with a sentence or right: no traceback, no hang, nothing wrong accepted.

2,600 cases; with HYPOTHESIS_FACTOR=10 ten times as many.
"""

import copy
import json
import math
import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_run import fake_cell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeeraser import config, models
from safeeraser.bench import runs, summary
from safeeraser.config import LoraOptions
from safeeraser.core.errors import UserError
from safeeraser.judges.guard import parse_guard
from safeeraser.judges.prompts import parse_reply
from safeeraser.models import adapters
from safeeraser.models.replies import read as read_reply
from safeeraser.objectives import METHODS, TERMS, parse_method

FACTOR = int(os.environ.get("HYPOTHESIS_FACTOR", "1"))


def cases(number: int) -> settings:
    """So many, and none hangs; the pauses of a busy machine are allowed for."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(
        max_examples=number * FACTOR, deadline=timedelta(seconds=30), suppress_health_check=checks, database=None
    )


odd_texts = st.sampled_from(["", "\0", "\ud800", "../x", "NaN", "x" * 3000, "\u2028", "{}", "\x1b[2J", "1e999"])
odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    odd_texts,
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@st.composite
def damaged_json(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with one to three places changed, removed or added."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        place = value
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(list(keys)))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            match draw(st.sampled_from(["change", "remove", "add"])):
                case "change":
                    place[key] = draw(odd_values)
                case "remove":
                    del place[key]
                case _ if isinstance(place, dict):
                    place[draw(odd_texts)] = draw(odd_values)
                case _:
                    place.insert(0, draw(odd_values))
            break
    return value


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that were cut, changed, doubled, or replaced."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 40)))
    put = draw(st.sampled_from([b"", b"\n", b"\0", b"\xff\xfe", b'"', b"}", b"[" * 20_000, b"9" * 6_000, b"\\ud800"]))
    return draw(st.sampled_from([content[:start], content[:start] + put + content[end:], content + content, put]))


# -- run folder ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake_cell(tmp_path_factory.mktemp("whole"), "po", 0)
    for name in ("queries.jsonl", "responses.jsonl", "verdicts.jsonl", "train.jsonl"):
        lines = (folder / name).read_text().splitlines(True)
        (folder / name).write_text("".join(lines[:6]))
    return folder


def _copy(whole: Path, folder: Path) -> Path:
    """The folder as it was: what the case before has damaged is put back."""
    if not folder.exists():
        return Path(shutil.copytree(whole, folder))
    for path in whole.iterdir():
        if path.is_file() and (folder / path.name).read_bytes() != path.read_bytes():
            shutil.copyfile(path, folder / path.name)
    return folder


RUN_FILES = ("cell.json", "scores.json", "queries.jsonl", "responses.jsonl", "verdicts.jsonl", "train.jsonl")


@cases(700)
@given(data=st.data())
def test_run_folders(whole: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = _copy(whole, tmp_path / "run/cells/mini-llava/po/seed-0")
    name = data.draw(st.sampled_from(RUN_FILES))
    content = (whole / name).read_bytes()
    if data.draw(st.booleans()):
        content = data.draw(damaged_bytes(content))
    elif name.endswith(".json"):
        content = json.dumps(data.draw(damaged_json(json.loads(content)))).encode()
    else:
        lines = content.splitlines()
        lines[2] = json.dumps(data.draw(damaged_json(json.loads(lines[2])))).encode()
        content = b"\n".join(lines) + b"\n"
    (folder / name).write_bytes(content)
    try:
        found = runs.find(tmp_path / "run")
        ((queries, responses, verdicts),) = [cell.judged() for cell in found]
        curves = summary.losses(found)
        found[0].spec.training_options(), found[0].spec.generation_options()
    except UserError as error:
        assert str(tmp_path) in str(error) or "safeeraser" in str(error)
        return
    assert all(v.value is None or 0 <= v.value <= 1 for v in verdicts)
    assert all(v.criterion == "similarity" or v.value in (0, 1, None) for v in verdicts)
    assert len(queries) <= 12 and len(responses) <= 12 and len(verdicts) <= 12
    values = [value for seeds in curves.values() for seed in seeds for curve in seed.values() for _, value in curve]
    assert all(map(math.isfinite, values))


# -- recipes ---------------------------------------------------------------------------------------------------------
RECIPE = (config.RECIPES / "llava-1.5-7b.yaml").read_bytes()
ODD_YAML = [
    b"!!python/object/apply:os.system ['false']",
    b"!!python/name:os.system",
    b"*unknown",
    b"<<: [1]",
    b"trust_remote_code: true",
    b"{" * 300,
    b"? [a]\n: b",
    b"- " * 300,
    b"!!binary x",
    b"2001-13-45",
    b"!!timestamp 2001-99-99",
    b"\x00",
    b"%YAML 9.9\n---",
    b"a: &x [1,1,1,1,1,1,1,1,1]\nb: &y [*x,*x,*x,*x,*x,*x,*x,*x,*x]\nc: [*y,*y,*y,*y,*y,*y,*y,*y,*y,*y,*y,*y,*y,*y]",
]


@cases(400)
@given(data=st.data())
def test_recipes(tmp_path: Path, data: st.DataObject) -> None:
    lines = RECIPE.splitlines()
    place = data.draw(st.integers(0, len(lines)))
    odd = data.draw(st.sampled_from(ODD_YAML) | st.binary(max_size=20) | st.text(max_size=20).map(_bytes))
    content = b"\n".join([*lines[:place], odd, *lines[place:]])
    content = data.draw(damaged_bytes(content)) if data.draw(st.booleans()) else content
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    try:
        found = config.read_options(path)
    except UserError as error:
        assert "recipe.yaml: " in str(error) and len(str(error)) < 1000
        return
    assert "trust_remote_code" not in str(found)
    assert found == yaml.safe_load(content.decode())


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


# -- methods ---------------------------------------------------------------------------------------------------------
pieces = st.sampled_from(
    [*METHODS.names(), *TERMS.names(), "+", "=", "0.5", "-1", "nan", "inf", "1e999", " ", "pd", "0", "\0"]
)
mappings = st.dictionaries(st.sampled_from([*TERMS.names(), "gd", "", "\ud800"]), odd_values, max_size=4)


@cases(500)
@given(method=st.lists(pieces, max_size=9).map("".join) | st.text(max_size=30) | mappings)
def test_methods(method: Any) -> None:
    try:
        found = parse_method(method)
    except UserError as error:
        assert "method" in str(error)
        return
    weights = [weight for _, weight in found.terms]
    assert weights and all(math.isfinite(weight) and weight > 0 for weight in weights)
    assert parse_method(found.name) == found
    assert "/" not in found.name and "\0" not in found.name


# -- replies ---------------------------------------------------------------------------------------------------------
verdict_texts = st.sampled_from(['"yes"', '"no"', "1", "0", "0.5", "true", "null", "NaN", "1e400", "9" * 5000, '"YES"'])
replies = st.one_of(
    verdict_texts.map(lambda verdict: f'{{"reason": "r", "verdict": {verdict}}}'),
    damaged_json({"reason": "r", "verdict": "yes"}).map(json.dumps),
    damaged_bytes(b'```json\n{"reason": "r", "verdict": 0.5}\n```').map(lambda b: b.decode("utf-8", "surrogateescape")),
    st.text(max_size=30),
)


@cases(400)
@given(reply=replies, criterion=st.sampled_from(["unsafe", "similarity"]))
def test_judge_replies(reply: str, criterion: Any) -> None:
    try:
        value = parse_reply(reply, criterion)
    except ValueError as error:
        assert len(str(error)) < 300
        return
    bare = reply.strip().removeprefix("```json").removesuffix("```")
    said = json.loads(bare)["verdict"]
    assert value == (said if criterion == "similarity" else {"yes": 1.0, "no": 0.0}[said])
    assert 0 <= value <= 1 and not isinstance(said, bool)


guard_parts = st.sampled_from(["safe", "unsafe", "\n", "S1", ",", "S14", " ", "not ", "\0", "\ud800"])


@cases(200)
@given(reply=st.lists(guard_parts).map("".join))
def test_guard_replies(reply: str) -> None:
    words = reply.split()
    value = parse_guard(reply)
    assert (value == 0.0) == (words == ["safe"] and reply.strip() == "safe")
    assert value != 1.0 or (words[0] == "unsafe" and "safe" not in words[1:])


KEY = "sk-0123456789abcdef"
COMPLETION = {"choices": [{"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}], "usage": {}}
contents = st.one_of(
    damaged_json(COMPLETION).map(lambda value: json.dumps(value).encode()),
    damaged_bytes(json.dumps(COMPLETION).encode()),
    st.sampled_from([KEY.encode(), json.dumps(COMPLETION).replace("stop", KEY).encode()]),
)


@cases(200)
@given(content=contents)
def test_servers(content: bytes) -> None:
    outcome = read_reply("a", content, lambda text: text.replace(KEY, "[key]"))
    assert outcome.failure is not None or isinstance(outcome.text, str)
    assert KEY not in repr((outcome.text, outcome.failure, outcome.finish_reason))


# -- adapters --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    adapters.save(adapters.attach(models.load(str(tiny_model)), LoraOptions(rank=2)), folder, {"method": "po"})
    return folder


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> models.VisionLanguageModel:
    return models.load(str(tiny_model))


ODD_OPTIONS = {
    "r": [0, -1, 10**9, True, "2", 2.0, 3],
    "lora_alpha": [0, -1, "x", 1e999, None, True],
    "lora_dropout": [1.0, -0.1, "0", None],
    "target_modules": [".*", "(a+)+$", [], None, ["lm_head"]],
    "modules_to_save": [["lm_head"], None, [".*"], "x"],
    "use_dora": [True],
    "use_rslora": [True],
    "fan_in_fan_out": [True],
    "bias": ["all"],
    "auto_mapping": [{"base_model_class": "os", "parent_library": "os"}],
    "layer_replication": [[[0, 10**6]]],
    "rank_pattern": [{".*": 10**6}],
    "peft_type": ["PREFIX_TUNING", None, "lora"],
    "task_type": ["SEQ_CLS", 3],
    "init_lora_weights": ["pissa", False, "eva"],
    "trust_remote_code": [True],
}


@cases(200)
@given(data=st.data())
def test_adapters(adapter: Path, loaded: models.VisionLanguageModel, tmp_path: Path, data: st.DataObject) -> None:
    folder = _copy(adapter, tmp_path / "adapter")
    name = data.draw(st.sampled_from([adapters.CONFIG, adapters.CONFIG, adapters.ORIGIN, adapters.WEIGHTS]))
    content = (adapter / name).read_bytes()
    if name == adapters.CONFIG and data.draw(st.booleans()):
        option = data.draw(st.sampled_from(list(ODD_OPTIONS)))
        change = {option: data.draw(st.sampled_from(ODD_OPTIONS[option]))}
        content = json.dumps(json.loads(content) | change).encode()
    elif name.endswith(".json") and data.draw(st.booleans()):
        content = json.dumps(data.draw(damaged_json(json.loads(content)))).encode()
    else:
        content = data.draw(damaged_bytes(content))
    (folder / name).write_bytes(content)
    fresh = models.VisionLanguageModel(**vars(loaded) | {"model": copy.deepcopy(loaded.model)})
    try:
        found = adapters.load(fresh, folder)
    except UserError as error:
        assert str(folder) in str(error)
        return
    made = found.model.peft_config["default"]
    parts = models.parts(loaded.model)
    pattern = parts.pattern(name for name, _ in loaded.model.named_modules())
    assert (made.r, made.target_modules, made.use_dora) == (2, pattern, False)
    assert made.modules_to_save == list(parts.projector) and 0 < made.lora_alpha < math.inf
    tensors = adapters.get_peft_model_state_dict(found.model)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
