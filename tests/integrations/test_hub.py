"""A finished cell as others load it: plain transformers, plain PEFT, ``transformers serve``."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import hub_server
import levels
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from safeeraser import cli, models
from safeeraser.bench.runs import Cell, CellScores
from safeeraser.bench.spec import CellSpec, training_values
from safeeraser.config import GenerationOptions, LoraOptions, Projector, UnlearnOptions
from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.data import hub as data_hub
from safeeraser.data.pictogram.build import build
from safeeraser.integrations import hub, model_card
from safeeraser.models import adapters, chat
from safeeraser.records import Score

QUESTION = "What is shown in this picture?"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Cells of MiniLLaVA: vanilla, and po+pd with either projector, whose adapters are shaken instead of trained."""

    def made(method: str, sarr: float, lora: LoraOptions) -> Path:
        folder = tmp_path_factory.mktemp("run") / "cells" / "mini-llava" / method / "seed-0"
        training = training_values(UnlearnOptions(lora=lora, steps=3), None)
        spec = CellSpec(
            model="mini-llava", data="pictogram", data_fingerprint="f1", method=method, seed=0, limit=12,
            sets=("safe",), training=training, generation=asdict(GenerationOptions()),
        )  # fmt: skip
        Cell(folder, spec).prepare()
        scores = [Score(metric="sarr", category=c, value=sarr, low=0.013, high=0.9, n=600) for c in ("all", "Weapon")]
        found = CellScores(cell=spec.model_dump(), judge="rules-3", scores=tuple(scores))
        files.write_json(folder / "scores.json", found.model_dump())
        return folder

    def shaken(projector: Projector) -> Path:
        lora = LoraOptions(rank=4, alpha=8.0, projector=projector)
        folder = made("po+pd", 0.025, lora)
        torch.manual_seed(0)
        vlm = adapters.attach(models.load("mini-llava"), lora)
        with torch.no_grad():
            for parameter in vlm.model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter), alpha=0.05)
        adapters.save(vlm, folder / "adapter", {})
        return folder

    cells = {"full": shaken("full"), "sine": shaken("sine"), "vanilla": made("vanilla", 0.75, LoraOptions())}
    shutil.copytree(cells["vanilla"], cells["full"].parents[1] / "vanilla" / "seed-0")
    return cells


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "red.png"
    Image.new("RGB", (64, 64), "red").save(path)
    return path


def answer(vlm: models.VisionLanguageModel, picture: Path) -> str:
    with Image.open(picture) as image:
        return chat.generate(vlm, [image.convert("RGB")], [QUESTION], 24)[0].answer


def plain_answer(model: object, processor: object, picture: Path) -> str:
    """As somebody answers who has never heard of this package."""
    content = [{"type": "image", "path": str(picture)}, {"type": "text", "text": QUESTION}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        output = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    new = output[0, inputs["input_ids"].shape[1] :]
    return processor.decode(new, skip_special_tokens=True).strip()


@pytest.mark.parametrize("projector", ["full", "sine"])
def test_merged_is_a_checkpoint_for_plain_transformers(finished, projector: str, picture: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = finished[projector]
    out = hub.run(folder, tmp_path / "merged")
    expected = answer(models.load("mini-llava", folder / "adapter"), picture)
    assert expected != answer(models.load("mini-llava"), picture)
    model, processor = AutoModelForImageTextToText.from_pretrained(out), AutoProcessor.from_pretrained(out)
    assert plain_answer(model, processor, picture) == expected
    assert answer(models.load(str(out)), picture) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged"]


@pytest.mark.parametrize("projector", ["full", "sine"])
def test_an_adapter_is_one_for_plain_peft(finished, projector: str, picture: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = finished[projector]
    out = hub.run(folder, tmp_path / "adapter", "adapter")
    base = models.BUILT_IN["mini-llava"]
    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), out)
    expected = answer(models.load("mini-llava", folder / "adapter"), picture)
    assert plain_answer(model, AutoProcessor.from_pretrained(base), picture) == expected


def test_an_adapter_that_plain_peft_takes_for_one_of_other_layers_is_refused(tmp_path: Path) -> None:
    """Of GLM-4.5V it takes the dense layers of a mixture of experts for experts, which have other sizes."""
    vlm = levels.tiny("glm4v_moe", {}, tmp_path / "model")
    adapted = adapters.attach(vlm, LoraOptions(rank=2, alpha=2.0, dropout=0.0))
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="PEFT takes layers of 'glm4v_moe' for those of an .*: give --kind merged"):
        hub.KINDS["adapter"](adapted, tmp_path / "out")


def test_what_is_not_loaded_of_a_processor_is_copied(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_folders["qwen2_5_vl"], tmp_path / "base"))
    (base / "video_preprocessor_config.json").write_text('{"do_resize": true}')
    models.save(models.load(str(base)), tmp_path / "out")
    assert (tmp_path / "out" / "video_preprocessor_config.json").read_text() == '{"do_resize": true}'
    assert models.load(str(tmp_path / "out")).processor.image_processor is not None


def test_the_card_says_what_it_is_made_of_and_gives_every_score_with_its_interval(finished, tmp_path: Path) -> None:
    text = (hub.run(finished["full"], tmp_path / "po-pd") / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["library_name"] == "transformers" and data["pipeline_tag"] == "image-text-to-text"
    assert "safeeraser:po+pd" in data["tags"] and "base_model" not in data
    (result,) = data["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "sarr", "value": 0.025, "name": "SARR ↓"}]
    assert "| SARR ↓ | 75.0 [1.3, 90.0] | 2.5 [1.3, 90.0] | 600 | 0 |" in body
    for section in ("Method", "Data", "Scores", "Intended use", "Limits", "Use"):
        assert f"\n## {section}\n" in body
    assert "`pd` | 1 | decouple |" in body and '"steps": 3' in body and "12 records" in body
    assert str(tmp_path) not in text


def test_what_stands_before_was_measured_in_the_same_way(finished, tmp_path: Path, capsys) -> None:
    run = Path(shutil.copytree(finished["full"].parents[1], tmp_path / "cells" / "mini-llava"))
    vanilla = run / "vanilla" / "seed-0" / "cell.json"
    files.write_json(vanilla, files.read_json(vanilla) | {"questions": 1})
    text = (hub.run(run / "po+pd" / "seed-0", tmp_path / "out", "adapter") / "README.md").read_text()
    assert "| SARR ↓ | – | 2.5 [1.3, 90.0] | 600 | 0 |" in text
    assert "was measured otherwise (questions: 1, and None here): the card leaves it out" in capsys.readouterr().err


def test_a_base_on_the_hub_is_named_and_a_folder_of_this_machine_is_not(finished, tmp_path: Path) -> None:
    spec = CellSpec.model_validate_json((finished["full"] / "cell.json").read_text())
    card = model_card.text(spec.model_copy(update={"model": "llava-hf/llava-1.5-7b-hf"}), {}, {}, "x", "adapter")
    assert "base_model: llava-hf/llava-1.5-7b-hf" in card and "base = 'llava-hf/llava-1.5-7b-hf'" in card
    local = model_card.text(spec.model_copy(update={"model": str(tmp_path / "mine")}), {}, {}, "x", "adapter")
    assert str(tmp_path) not in local and "`mine`" in local and "base_model" not in local


def test_an_export_is_in_the_type_that_was_scored_and_names_no_folder_of_this_machine(finished, tmp_path: Path) -> None:
    """A float32 checkpoint whose cell answered in bfloat16, with an adapter made on it."""
    cell = Path(shutil.copytree(finished["full"], tmp_path / "cells" / "mini-llava" / "po+pd" / "seed-0"))
    loading = {"dtype": "bfloat16", "device": "cuda", "quantization": "none", "attention": "auto"}
    files.write_json(cell / "cell.json", files.read_json(cell / "cell.json") | {"loading": loading})
    merged, adapter = hub.run(cell, tmp_path / "merged"), hub.run(cell, tmp_path / "adapter", "adapter")
    assert models.load(str(merged)).model.dtype == torch.bfloat16
    trained = load_file(adapter / adapters.WEIGHTS)
    assert {value.dtype for name, value in trained.items() if "projector" in name} == {torch.bfloat16}
    assert files.read_json(adapter / adapters.CONFIG)["base_model_name_or_path"] is None  # "mini-llava" is on no hub
    for folder in (merged, adapter):
        assert "The answers are of the model loaded with dtype `bfloat16`.\n" in (folder / "README.md").read_text()
    assert 'from_pretrained(base, dtype="bfloat16"), "adapter")' in (adapter / "README.md").read_text()
    assert "loaded with dtype" not in (hub.run(finished["full"], tmp_path / "plain") / "README.md").read_text()


def test_what_is_left_of_an_earlier_push_is_never_loaded_with_a_new_one(tmp_path: Path, monkeypatch) -> None:
    """transformers would put an adapter that lies beside merged weights on them once more."""

    def folder(name: str, *names: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text("---\nlicense: mit\ntags: [safety]\n---\n")
        for one in names:
            (tmp_path / name / one).write_text(f"{{}} of {name}")
        return tmp_path / name

    merged = folder("merged", "config.json", "model.safetensors", "tokenizer.json")
    adapter = folder("adapter", "adapter_config.json", "adapter_model.safetensors")
    monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with hub_server.serving() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        hub.push(adapter, "me/model")
        (adapter / "adapter_config.json").write_text("{} of later")
        hub.push(adapter, "me/model")  # the same kind again
        there = dict(server.repositories["models", "me/model"])
        assert there["adapter_config.json"] == b"{} of later"
        with pytest.raises(
            UserError, match="it holds adapter_config.json, adapter_model.safetensors, which .*merged does"
        ):
            hub.push(merged, "me/model")
        assert server.repositories["models", "me/model"] == there


@pytest.fixture
def server(finished, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """``transformers serve`` on the loopback interface, with the address and what it serves."""
    out = hub.run(finished["full"], tmp_path / "served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(out)]
    with open(tmp_path / "serve.log", "w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "serve.log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1", out
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_transformers_serve_answers_as_the_model_does_here(server, picture: Path) -> None:
    from openai import OpenAI

    address, out = server
    url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    reply = OpenAI(base_url=address, api_key="none").chat.completions.create(
        model=str(out), messages=[{"role": "user", "content": content}], temperature=0, max_tokens=24
    )
    assert reply.choices[0].message.content.strip() == answer(models.load(str(out)), picture)


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (lambda cells, tmp: cells["vanilla"], [], "has no adapter"),
        (lambda cells, tmp: tmp, [], "is no cell: give a folder such as runs/"),
        (lambda cells, tmp: cells["full"], ["--push", "nobody"], "give OWNER/NAME"),
        (lambda cells, tmp: cells["full"], ["--push", "me/../x"], "--push me/../x"),
        (lambda cells, tmp: cells["full"], ["--push", "me/x"], "no token; run 'hf auth login' once, or set HF_TOKEN"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    prepare, arguments, message, finished, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    out = tmp_path / "out"
    assert cli.main(["export", str(prepare(finished, tmp_path)), "--out", str(out), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_that_holds_something_is_left_alone(finished, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not an empty folder: remove it or choose another --out"):
        hub.run(finished["full"], tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_without_a_network_push_says_so_and_the_export_stays(finished, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_token")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    assert cli.main(["export", str(finished["full"]), "--out", str(out), "--push", "me/x"]) == 2
    assert "the hub cannot be reached or refuses" in capsys.readouterr().err
    assert (out / "model.safetensors").exists()


BOTH = """
import json, sys
from huggingface_hub import DatasetCard, HfApi, ModelCard
from safeeraser import cli, data

source, cell, out = sys.argv[1:]
parquet = ["--format", "parquet", "--license", "cc0-1.0", "--out", f"{out}/data"]
assert cli.main(["data", "export", source, *parquet, "--push", "me/data"]) == 0
assert cli.main(["export", cell, "--out", f"{out}/model", "--kind", "adapter", "--push", "me/model"]) == 0
ours, theirs = data.load(source), data.load("hf://me/data")
bare = lambda found: [one.model_copy(update={"source": {}}) for one in (*found.records, *found.probes)]
assert bare(theirs) == bare(ours) and theirs.refusals == ours.refusals and theirs.name == "hf://me/data"
assert theirs.image(theirs.records[0].image).read_bytes() == ours.image(ours.records[0].image).read_bytes()
assert theirs.image(theirs.probes[0].image).is_file() and data.load("hf://me/data").root == theirs.root
assert cli.main(["data", "stats", "hf://me/none"]) == 2
card, about = ModelCard.load("me/model").data, DatasetCard.load("me/data").data
result = card.eval_results[0]
said = [card.license, card.metrics, result.metric_type, result.metric_value]
print(json.dumps([*said, about.license, about.to_dict()["configs"]]))
"""


def test_what_is_pushed_to_a_hub_is_loaded_from_it(finished, tmp_path: Path) -> None:
    source = build(tmp_path / "small", records=48, workers=1)
    with hub_server.serving() as server:
        env = os.environ | {"HF_ENDPOINT": server.address, "HF_TOKEN": hub_server.TOKEN, "HF_HUB_DISABLE_XET": "1"}
        env |= {"HF_HOME": str(tmp_path / "hf"), "SAFEERASER_CACHE": str(tmp_path / "cache")}
        line = [sys.executable, "-c", BOTH, str(source), str(finished["full"]), str(tmp_path / "out")]
        done = subprocess.run(line, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "next: --data hf://me/data" in done.stdout
    assert "data 'hf://me/none': the hub cannot be reached or does not give it" in done.stderr
    licence, metrics, metric, value, of_data, configs = json.loads(done.stdout.splitlines()[-1])
    assert (licence, metrics, metric, value, of_data) == ("apache-2.0", ["sarr"], "sarr", 0.025, "cc0-1.0")
    assert [config["config_name"] for config in configs] == ["default", "probes"]
    assert server.private == {("datasets", "me/data"), ("models", "me/model")}
    assert {"data/train.parquet", "probes/val.parquet", "prompt.json"} <= {*server.repositories["datasets", "me/data"]}
    assert "adapter_model.safetensors" in server.repositories["models", "me/model"]


def test_an_image_of_a_pushed_dataset_is_written_inside_its_folder(tmp_path: Path) -> None:
    for path in ("../x.png", "/x.png", "img/../../x.png"):
        with pytest.raises(UserError, match="leaves the dataset folder"):
            data_hub._write_image(tmp_path / "root", path, {"bytes": b""})
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_of_another_layout_is_refused_in_a_line(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "data").mkdir()
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "data" / "train.parquet")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(UserError, match="'hf://me/data': it is not what 'safeeraser data export' writes"):
        data_hub.fetch("hf://me/data", tmp_path / "cache")
    assert not any((tmp_path / "cache").iterdir())
