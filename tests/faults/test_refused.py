"""What is refused unless somebody asks for it, each with the reason."""

import json
import pickle
import struct
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from safeeraser import cli, config, models
from safeeraser.config import LoraOptions
from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.data.images import ImageCache
from safeeraser.models import adapters


class Trap:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def _png(side: int) -> bytes:
    """A PNG of ``side`` x ``side`` pixels, 1 bit each, all of which fit in few bytes."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(side)) + packer.flush()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_an_image_of_900_million_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png(30_000))
    begun = time.process_time()
    with pytest.raises(UserError, match="far more than 64,000,000 pixels"):
        ImageCache(Benchmark("t", tmp_path, (), (), (), "")).get("a.png")
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("kind", ["TIFF", "html", "svg", "zip", "elf", "pdf", "pickle", "png header alone"])
def test_an_image_that_is_something_else_than_its_name_says(tmp_path: Path, kind: str) -> None:
    """Of the formats that are read, the content decides and not the name (docs/data.md); nothing else is read."""
    path = tmp_path / "a.png"
    if kind == "TIFF":
        Image.new("RGB", (9, 7)).save(path, format="TIFF")
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a.png", b"x")
    else:
        content = {
            "html": b"<html><script>alert(1)</script></html>",
            "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
            "elf": b"\x7fELF\x02\x01\x01" + bytes(64),
            "pdf": b"%PDF-1.7\n1 0 obj",
            "pickle": pickle.dumps(Trap(tmp_path / "mark")),
            "png header alone": b"\x89PNG\r\n\x1a\n<script>alert(1)</script>",
        }
        path.write_bytes(content[kind])
    reason = "its content is none of PNG, JPEG|damaged or cut short|a web page"
    with pytest.raises(UserError, match=f"a.png' cannot be read .({reason})"):
        ImageCache(Benchmark("t", tmp_path, (), (), (), "")).get("a.png")
    assert not (tmp_path / "mark").exists()


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    adapters.save(adapters.attach(models.load(str(tiny_model)), LoraOptions(rank=2)), folder, {})
    return folder


def test_a_pickle_with_the_name_of_weights(tiny_model: Path, adapter: Path, tmp_path: Path) -> None:
    (adapter / adapters.WEIGHTS).write_bytes(pickle.dumps({"lora": Trap(tmp_path / "mark")}))
    with pytest.raises(UserError, match="adapter_model.safetensors cannot be read"):
        models.load(str(tiny_model), adapter)
    (adapter / adapters.WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(UserError, match="adapter_model.safetensors is missing"):
        models.load(str(tiny_model), adapter)
    assert not (tmp_path / "mark").exists()


def test_an_adapter_of_another_model(adapter: Path, tiny_other_weights: Path) -> None:
    with pytest.raises(UserError, match="was made on model .* with other weights than"):
        models.load(str(tiny_other_weights), adapter)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"auto_mapping": {"base_model_class": "x", "parent_library": "os"}}, "auto_mapping is"),
        ({"use_dora": True}, "use_dora is 'True'"),
        ({"target_modules": ".*"}, "target_modules is"),
        ({"r": 10**9}, "none of its weights is of the rank 1000000000"),
        ({"a_key_of_a_newer_peft": {"on": True}}, "a_key_of_a_newer_peft is"),
    ],
)
def test_an_adapter_of_another_make(tiny_model: Path, adapter: Path, change: dict[str, object], said: str) -> None:
    path = adapter / adapters.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=said):
        models.load(str(tiny_model), adapter)


def test_what_another_version_of_peft_leaves_off_is_no_other_make(tiny_model: Path, adapter: Path) -> None:
    path = adapter / adapters.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new_kind": None, "new_list": [], "peft_version": "9"}))
    assert models.load(str(tiny_model), adapter).model.peft_config["default"].r == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods: !!python/object/apply:pathlib.Path.touch [mark]", "a tag that makes anything else is never"),
        ("trust_remote_code: true", "trust_remote_code is refused: code that comes with a checkpoint is never run"),
        ("loading: {trust_remote_code: true}", "trust_remote_code is refused"),
        ("methods: po\nmethods: ga", "a key stands here twice"),
        ("- po", "not a mapping of options"),
        ("methods: [po", "not YAML"),
        ("methods: " + "[" * 1000, "not YAML"),
    ],
)
def test_recipes(tmp_path, text, said, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(text)
    for command in ("bench", "unlearn"):
        assert cli.main([command, "--config", "mine.yaml"]) == 2
        error = capsys.readouterr().err
        assert f"mine.yaml: {said}" in error or said in error
        assert "Traceback" not in error and len(error) < 1000
    assert not Path("mark").exists()


def test_recipes_that_ship_pass() -> None:
    for path in config.RECIPES.glob("*.yaml"):
        assert config.read_options(path)["model"]


def test_code_that_comes_with_a_checkpoint(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    values = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(values | {"auto_map": auto, "model_type": "evil"}))
    with pytest.raises(UserError, match="its config.json cannot be used"):
        models.load(str(folder))
    (folder / "config.json").write_text(json.dumps(values | {"auto_map": auto}))
    assert models.load(str(folder)).model.__class__.__name__ == "LlavaForConditionalGeneration"  # the library's own
    assert not (tmp_path / "mark").exists()
