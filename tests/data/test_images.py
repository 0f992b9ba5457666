import io
import json
import struct
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageFile
from releases import draw, record, release

from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, images, load
from safeeraser.data.images import FORMATS, ImageCache, decode, encode, pixel_hash, to_rgb
from safeeraser.data.release import examine, read_release


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


def quarters(mode: str = "RGB") -> Image.Image:
    """Four colours, 6 x 4: where each corner is tells how a picture is turned."""
    image = Image.new("RGB", (6, 4), "white")
    for corner, colour in {(0, 0): "red", (5, 0): "lime", (0, 3): "blue", (5, 3): "black"}.items():
        image.putpixel(corner, ImageColor.getrgb(colour))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("orientation", "corners"),  # top left, top right, bottom left, bottom right, as the EXIF standard has them
    [
        (1, ("red", "lime", "blue", "black")),
        (2, ("lime", "red", "black", "blue")),
        (3, ("black", "blue", "lime", "red")),
        (4, ("blue", "black", "red", "lime")),
        (5, ("red", "blue", "lime", "black")),
        (6, ("blue", "red", "black", "lime")),
        (7, ("black", "lime", "blue", "red")),
        (8, ("lime", "black", "red", "blue")),
    ],
)
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, orientation, corners, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters().save(tmp_path / "photo", format=format, exif=exif, lossless=True)
    image = decode(tmp_path / "photo")
    right, bottom = image.width - 1, image.height - 1
    assert image.size == ((4, 6) if orientation > 4 else (6, 4))
    found = [image.getpixel(place) for place in ((0, 0), (right, 0), (0, bottom), (right, bottom))]
    assert found == [ImageColor.getrgb(colour) for colour in corners]
    content, kind = encode(tmp_path / "photo")
    assert kind == "image/png" and image_of(content).tobytes() == image.tobytes()
    assert image_of(content).getexif().get(0x0112, 1) == 1


def image_of(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_a_broken_note_on_orientation_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    for number, note in enumerate((b"II*\0\xff\xff\xff\xff", b"II", b"XXXXgarbage")):
        path = tmp_path / f"{number}.png"
        quarters().save(path, exif=b"Exif\0\0" + note)
        assert decode(path).tobytes() == quarters().tobytes() == image_of(encode(path)[0]).convert("RGB").tobytes()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    """65,535 is white: 257 steps of 16 bits are one of 8; 0, 128, 257, 32,768 and 65,535 by hand."""
    values = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert np.asarray(decode(tmp_path / "grey.png"))[0].tolist() == [[v] * 3 for v in (0, 0, 1, 128, 255)]
    Image.fromarray(values).save(tmp_path / "clear.png", transparency=32768)
    assert np.asarray(decode(tmp_path / "clear.png"))[0, :, 0].tolist() == [0, 0, 1, 255, 255]
    assert np.asarray(image_of(encode(tmp_path / "grey.png")[0]))[0].tolist() == [[v] * 3 for v in (0, 0, 1, 128, 255)]
    for mode, given in (("I", 32768), ("F", 0.5), ("F", 128.2)):
        assert to_rgb(Image.new(mode, (1, 1), given)).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize(
    ("format", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("WEBP", "RGBA"), ("GIF", "P")]
)
def test_what_is_transparent_is_white(tmp_path: Path, format: str, mode: str) -> None:
    """Hidden black pixels, as drawing programs leave them, are not seen; half-clear black is grey (PNG and WebP)."""
    if mode == "P":
        image, options = Image.new("P", (3, 1), 0), {"transparency": 1}
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.putpixel((0, 0), 1)
        expected = [255, 0, 0]
    else:
        image, options = Image.new(mode, (3, 1), (0,) * (len(mode) - 1) + (255,)), {"lossless": True, "exact": True}
        for x, alpha in ((0, 0), (1, 128)):
            image.putpixel((x, 0), (0,) * (len(mode) - 1) + (alpha,))
        expected = [255, 127, 0]
    image.save(tmp_path / "a", format=format, **options)
    shown = decode(tmp_path / "a")
    assert np.asarray(shown)[0].tolist() == [[value] * 3 for value in expected]
    content, kind = encode(tmp_path / "a")
    assert kind == "image/png" and image_of(content).mode == "RGB" and image_of(content).tobytes() == shown.tobytes()


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert decode(tmp_path / name).getpixel((1, 1)) == (255, 0, 0)
        sent = image_of(encode(tmp_path / name)[0])
        assert getattr(sent, "n_frames", 1) == 1 and sent.getpixel((1, 1)) == (255, 0, 0)


def test_a_server_gets_the_file_itself_where_that_shows_the_same(tmp_path: Path) -> None:
    for name, kind in (("a.png", "image/png"), ("a.jpg", "image/jpeg")):
        draw(tmp_path / name, side=32)
        assert encode(tmp_path / name) == ((tmp_path / name).read_bytes(), kind)
    draw(tmp_path / "half.jpg", side=64)
    _truncate(tmp_path / "half.jpg", 0.6)
    with pytest.raises(UserError, match="damaged or cut short"):
        encode(tmp_path / "half.jpg")


def test_a_large_photograph_that_is_turned_goes_as_jpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    quarters().resize((60, 40)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    monkeypatch.setattr(images, "MAX_PNG_PIXELS", 1000)
    content, kind = encode(tmp_path / "a.jpg")
    assert kind == "image/jpeg" and image_of(content).size == (40, 60)
    difference = np.abs(np.asarray(image_of(content), dtype=int) - np.asarray(decode(tmp_path / "a.jpg"), dtype=int))
    assert difference.mean() < 3


def test_the_pictures_that_ship_are_what_they_were(small: Benchmark) -> None:
    """Plain Pillow's RGB, by which the embedded models and all published numbers were made, and ours."""
    names = [path for record in small.records[::5] for path in (record.image, record.safe_image) if path]
    names += [probe.image for probe in small.probes[::10]]
    assert len(names) > 60
    for name in names:
        with Image.open(small.image(name)) as plain:
            assert pixel_hash(decode(small.image(name))) == pixel_hash(plain.convert("RGB"))
        assert encode(small.image(name)) == (small.image(name).read_bytes(), "image/png")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer.*'git lfs pull'"),
        (b"\n<!DOCTYPE html><title>404</title>", "a web page.*download it again"),
        (b"", r"an empty file \(0 bytes\)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC or AVIF.*save it as JPEG"),
        (b"\x89PNG\r\n", "damaged or cut short"),
        (b"\xff\xd8\xff\xe0", "damaged or cut short"),
        (b"II*\0\x08\0\0\0", "its content is none of PNG"),
    ],
)
def test_what_is_no_image_says_what_it_is(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (decode, encode):
        with pytest.raises(UserError, match=reason):
            read(tmp_path / "a.jpg")


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
        with pytest.raises(UserError, match=f"image 'bomb.png' cannot be read .{reason}.*safeeraser data check"):
            ImageCache(benchmark).get("bomb.png")
    assert time.perf_counter() - start < 1


def test_half_an_image_is_not_the_image_whatever_another_library_allows(tmp_path, monkeypatch):
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
        (2, "image_path", "cannot be read: damaged or cut short (OSError: image file is truncated"),
        (3, "image_path", "cannot be read: an empty file (0 bytes)"),
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
