import json
import struct
import time
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageFile
from releases import draw, record, release

from safeeraser.data import Benchmark, load
from safeeraser.data.images import FORMATS, ImageCache, decode
from safeeraser.data.official import examine, read_release
from safeeraser.errors import UserError


def _bomb(path: Path, side: int) -> None:
    """A PNG of ``side`` x ``side`` pixels in few bytes: 1 bit per pixel, all zero."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (side // 8 + 1)), 9)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def _truncate(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_formats_are_told_by_content(tmp_path: Path, format: str, mode: str) -> None:
    if (format, mode) in {("JPEG", "P"), ("JPEG", "RGBA")}:
        mode = "CMYK"
    Image.new(mode, (9, 7)).save(tmp_path / "image.txt", format=format)
    image = decode(tmp_path / "image.txt")
    assert (image.mode, image.size) == ("RGB", (9, 7))


def test_other_formats_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (9, 7)).save(tmp_path / "image.png", format="TIFF")
    with pytest.raises(UserError, match="its content is none of PNG, JPEG, WEBP, GIF, BMP"):
        decode(tmp_path / "image.png")


@pytest.mark.parametrize(("side", "reason"), [(8_100, "8100 x 8100 pixels"), (20_000, "far more than 64,000,000")])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int, reason: str) -> None:
    _bomb(tmp_path / "bomb.png", side)
    benchmark = Benchmark("t", tmp_path, (), (), (), "")
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError, match=f"image 'bomb.png' cannot be read .*{reason}.*safeeraser data check"):
            ImageCache(benchmark).get("bomb.png")
    assert time.perf_counter() - start < 1


def test_half_an_image_is_not_the_image_whatever_another_library_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for name in ("a.jpg", "a.png", "a.webp", "a.gif", "a.bmp"):
        draw(tmp_path / name, side=64)
        decode(tmp_path / name)
        _truncate(tmp_path / name, 0.7)
        with pytest.raises(UserError, match="damaged|its content"):
            decode(tmp_path / name)


def test_examining_finds_every_bad_image_and_names_record_and_field(tmp_path: Path) -> None:
    safe = [f"SDimg/Weapon/{k}.jpg" for k in range(5)]
    folder = release(tmp_path, *[record(k, SDImage_path=safe[k % 5]) for k in range(10)])
    root = folder / "dataset"
    draw(root / "img/Weapon/1.jpg", side=64)
    _truncate(root / "img/Weapon/1.jpg", 0.6)
    (root / "img/Weapon/2.jpg").write_bytes(b"")
    _bomb(root / "img/Weapon/3.jpg", 8_100)
    (root / "img/Weapon/4.jpg").unlink()
    (root / "img/Weapon/4.jpg").symlink_to(tmp_path / "outside.jpg")
    draw(tmp_path / "outside.jpg")
    (root / "img/Weapon/6.jpg").unlink()
    (root / "img/Weapon/6.jpg").symlink_to("6.jpg")
    (root / safe[2]).write_text("no image")
    done: list[tuple[int, int]] = []
    benchmark, problems = examine(folder, progress=lambda k, of: done.append((k, of)))
    found = [(p.record, p.field, p.message) for p in problems]
    expected = [
        (2, "image_path", "cannot be read: damaged: OSError: image file is truncated"),
        (3, "image_path", "cannot be read: its content is none of"),
        (3, "SDImage_path", "cannot be read: its content is none of"),
        (4, "image_path", "8100 x 8100 pixels"),
        (5, "image_path", "leaves the dataset folder"),
        (7, "image_path", "is no path to a file"),
        (8, "SDImage_path", "cannot be read: its content is none of"),
    ]
    assert [(record, field) for record, field, _ in found] == [(record, field) for record, field, _ in expected]
    assert all(part in message for (_, _, message), (_, _, part) in zip(found, expected, strict=True))
    assert done[-1] == (13, 13)
    assert benchmark is not None
    assert [read.image.split("/")[-1] for read in benchmark.records] == ["0.jpg", "5.jpg", "7.jpg", "8.jpg", "9.jpg"]
    assert [read.safe_image for read in benchmark.records if read.image == "img/Weapon/7.jpg"] == [None]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/etc/hostname", "leaves the dataset folder"),
        ("img/../../../etc/hostname", "leaves the dataset folder"),
        ("img", "is not a file"),
        ("img/Weapon/1.jpg/2.jpg", "is no path to a file (Not a directory)"),
        ("a\0b.jpg", "is no path to a file"),
        ("a" * 5000, "is no path to a file (File name too long)"),
        ("img\\Weapon\\1.jpg", "is missing"),
    ],
)
def test_paths_that_lead_to_no_image_of_the_folder(tmp_path: Path, path: str, message: str) -> None:
    folder = release(tmp_path, record())
    content = (folder / "dataset" / "all_train.json").read_text().replace('"img/Weapon/1.jpg"', '"PLACE"')
    (folder / "dataset" / "all_train.json").write_text(content.replace('"PLACE"', json.dumps(path)))
    (problem,) = examine(folder)[1]
    assert problem.field == "image_path" and message in problem.message and len(str(problem)) < 400


def test_loading_looks_at_files_but_not_into_them(tmp_path: Path) -> None:
    folder = release(tmp_path, record())
    (folder / "dataset/img/Weapon/1.jpg").write_text("no image")
    assert len(load(folder).records) == 1
    assert len(read_release(folder, on_bad="skip").records) == 1
