"""Releases damaged at random are read without a traceback, a hang or a wrong record.

What must be read is said by an oracle of its own: it parses the damaged files with plain ``json.loads``, whole or line
by line, and states the rules of ``docs/data.md`` once more, as simply as it can.
"""

import codecs
import copy
import io
import json
import math
import tempfile
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from releases import record

from safeeraser.core.errors import UserError
from safeeraser.data.release import examine, read_release, rewrite

EXAMPLES = 600
SLOTS = ("text1", "text2", "image1", "image2")
TRAIN = [record(1, SDImage_path="SDimg/1.png"), record(2, SDImage_path="SDimg/2.png", note={"a": [1, 2.5, "é🪓"]})]
TRAIN += [record(3, image_path=None, image_id="img/Weapon/3.jpg", category="", SDImage_path=None, keyword="bow")]
VAL = [record(4, SDImage_path="SDimg/1.png"), record(5, SDImage_path="SDimg/2.png", type="real")]
IMAGES = [f"img/Weapon/{number}.jpg" for number in range(1, 6)] + ["SDimg/1.png", "SDimg/2.png"]


def _image(name: str) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((16, 16), 90).convert("RGB").save(file, format="PNG" if name.endswith("png") else "JPEG")
    return file.getvalue()


CONTENT = {name: _image(name) for name in IMAGES}

odd_texts = st.sampled_from(["", " ", "\n", "\0", "\ud83d", "\udce9", "naïve 🪓", "x" * 300, "\u2028", "\\", '"'])
odd_paths = st.sampled_from(
    ["../x.jpg", "/etc/hostname", "img/../img/Weapon/1.jpg", "img", ".", "a\0b", "img/Weapon/link.jpg", "no.jpg"]
    + ["img//Weapon/2.jpg", "img\\Weapon\\1.jpg", "out.jpg", "x" * 300, "img/Weapon/1.jpg/", "SDimg/1.png"]
)
odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    odd_texts,
    odd_paths,
    st.just([]),
    st.just({}),
    st.recursive(st.text(max_size=3), lambda inner: st.lists(inner, max_size=3), max_leaves=4),
    st.dictionaries(st.sampled_from(["question", "Question", "Answer", "é"]), st.text(max_size=3), max_size=3),
)


@st.composite
def damaged_items(draw: st.DrawFn, items: list[Any]) -> list[Any]:
    """Records with keys dropped, values replaced or swapped, records repeated, dropped or replaced."""
    items = copy.deepcopy(items)
    for _ in range(draw(st.integers(0, 4))):
        places = [(parent, key) for parent, key in _places(items)]
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        act = draw(st.sampled_from(["drop", "replace", "path", "swap", "repeat"]))
        if act == "drop":
            del parent[key]
        elif act == "replace":
            parent[key] = draw(odd_values)
        elif act == "path":
            name = draw(st.sampled_from(["image_path", "image_id", "SDImage_path"]))
            (parent if isinstance(parent, dict) else {})[name] = draw(odd_paths)
        elif act == "swap":
            other, place = draw(st.sampled_from(places))
            parent[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(parent[key])
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
    return items


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *_places(value[key])]
    return found


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes flipped, inserted, removed, or cut off."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        act = draw(st.sampled_from(["flip", "insert", "remove", "cut"]))
        if act == "cut":
            content = content[:start]
        else:
            length = draw(st.integers(1, 4)) if act != "insert" else 0
            new = b"" if act == "remove" else draw(st.binary(min_size=1, max_size=4))
            content = content[:start] + new + content[start + length :]
    return content


@st.composite
def json_files(draw: st.DrawFn, items: list[Any]) -> bytes:
    items = draw(damaged_items(items))
    ascii, indent = draw(st.booleans()), draw(st.sampled_from([None, 1]))
    if draw(st.booleans()):
        text = json.dumps(items, ensure_ascii=ascii, indent=indent)
    else:
        text = draw(st.sampled_from(["\n", "\r\n", "\n\n"])).join(json.dumps(one, ensure_ascii=ascii) for one in items)
    if draw(st.integers(0, 9)) == 0:
        text = text.replace('"type":', '"keyword":', 1)
    encoding = draw(st.sampled_from(["utf-8"] * 15 + ["utf-8-sig", "utf-16", "utf-32", "latin-1", "utf-16-le"]))
    content = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    return draw(damaged_bytes(content)) if draw(st.integers(0, 5)) == 0 else content


@st.composite
def releases(draw: st.DrawFn) -> dict[str, bytes | None]:
    """Files of a damaged release; None for one that is not there."""
    files: dict[str, bytes | None] = {
        "all_train.json": draw(json_files(TRAIN)),
        "all_val.json": draw(json_files(VAL)) if draw(st.booleans()) else None,
    }
    for name in IMAGES:
        act = draw(st.integers(0, 30))
        files[name] = None if act == 0 else draw(damaged_bytes(CONTENT[name])) if act < 3 else CONTENT[name]
    return files


def _write(root: Path, files: dict[str, bytes | None]) -> None:
    for folder in ("img/Weapon", "SDimg"):
        (root / folder).mkdir(parents=True)
    for name, content in files.items():
        if content is not None:
            (root / name).write_bytes(content)
    (root / "img/Weapon/link.jpg").symlink_to("2.jpg")
    (root / "out.jpg").symlink_to("/etc/hostname")


# the oracle


class Twice(dict[str, Any]):
    """An object that had a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return (dict if len(dict(pairs)) == len(pairs) else Twice)(pairs)


def oracle_items(content: bytes) -> list[Any] | None:
    """The items of a file, an exception in place of a broken line; None if the file is of no use as a whole."""
    marks = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"} | marks
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding, "surrogateescape" if encoding.startswith("utf-8") else "strict")
    except UnicodeDecodeError:
        return None
    if not text.strip(" \t\r\n") or "\0" in text[:8]:
        return None
    if text.lstrip(" \t\r\n").startswith("["):
        try:
            return list(json.loads(text, object_pairs_hook=_object))
        except ValueError:
            return None
    items: list[Any] = []
    for line in text.split("\n"):
        if line.strip(" \t\r\n"):
            try:
                items.append(json.loads(line, object_pairs_hook=_object))
            except ValueError as error:
                items.append(error)
    return None if all(isinstance(one, ValueError) for one in items) else items


def is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return not isinstance(value, Twice) and all(is_json(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(is_json(part) for part in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, str) or value.encode("utf-8", "replace").decode() == value


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_text_or_absent(value: Any) -> bool:
    return value is None or isinstance(value, str)


def is_image(root: Path, relative: str) -> bool:
    try:
        path = (root / relative).resolve()
        if PurePosixPath(relative).is_absolute() or not path.is_relative_to(root.resolve()) or not path.is_file():
            return False
        with Image.open(path, formats=["PNG", "JPEG", "WEBP", "GIF", "BMP"]) as image:
            return bool(image.convert("RGB"))
    except Exception:
        return False


def oracle_record(root: Path, value: Any) -> tuple[Any, ...] | None:
    """What must be read of an item; None if it is bad."""
    if not isinstance(value, dict) or not is_json(value):
        return None
    optional = ("category", "keyword", "type", "SDImage_path", "SDkeyword", "image_path")
    path = value.get("image_path")
    blank = path is None or (isinstance(path, str) and not path.strip())
    image = value.get("image_id") if blank else path
    pairs = value.get("unsafe_pairs")
    retain = [(slot, pair) for slot in SLOTS if (pair := value.get(f"UnharmPair_{slot}")) is not None]
    good = is_text(image) and all(is_text_or_absent(value.get(name)) for name in optional)
    good = good and isinstance(pairs, list) and len(pairs) > 0
    good = good and all(
        isinstance(pair, dict)
        and is_text(pair.get("question"))
        and is_text(pair.get("model_response"))
        and is_text_or_absent(pair.get("sd_response"))
        for pair in pairs
    )
    good = good and all(
        isinstance(pair, dict)
        and is_text(pair.get("Question"))
        and all(is_text_or_absent(pair.get(name)) for name in ("Answer", "Prediction"))
        and (is_text(pair.get("Answer")) or is_text(pair.get("Prediction")))
        for _, pair in retain
    )
    if not good or not is_image(root, image):
        return None
    text = {name: value[name] for name in optional if is_text(value.get(name))}
    safe = text.get("SDImage_path")
    return (
        image,
        text.get("category") or PurePosixPath(image).parent.name,
        text.get("keyword", ""),
        text.get("type", ""),
        safe if safe and is_image(root, safe) else None,
        [(p["question"], p["model_response"], s if is_text(s := p.get("sd_response")) else None) for p in pairs],
        [
            (slot, pair["Question"], pair["Prediction"] if is_text(pair.get("Prediction")) else pair["Answer"])
            for slot, pair in retain
        ],
        safe,
        [pair["Answer"] if is_text(pair.get("Answer")) else "" for _, pair in retain],
        text.get("SDkeyword"),
    )


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=timedelta(seconds=20),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(files=releases())
@example(files={"all_train.json": b"[" * 100_000, "all_val.json": None})
@example(files={"all_train.json": b"\xff\xfe\x00\x00", "all_val.json": b"\xef\xbb\xbf"})
def test_damage_is_reported_and_never_a_wrong_record(files: dict[str, bytes | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "dataset"
        _write(root, files)
        benchmark, problems = examine(root)
        lines = [str(problem) for problem in problems]
        assert all(line.isprintable() and line.startswith("all_") for line in lines), lines
        items = {
            split: oracle_items(content) if len(content) < 100_000 else None
            for split in ("train", "val")
            if (content := files[f"all_{split}.json"]) is not None
        }
        if any(held is None for held in items.values()):
            assert benchmark is None and any(problem.record is None for problem in problems)
            return
        assert benchmark is not None
        for split, held in items.items():
            expected: dict[int, tuple[Any, ...]] = {}
            for number, one in enumerate(held or [], 1):
                read = oracle_record(root, one)
                if read is not None and not any(_said(read) == _said(other) for other in expected.values()):
                    expected[number] = read
            found = benchmark.split(split)  # type: ignore[arg-type]
            assert [_read(one) for one in found] == [read[:7] for read in expected.values()]
            bad = {problem.record for problem in problems if problem.file == f"all_{split}.json"}
            safe_bad = {number for number, read in expected.items() if read[4] != read[7]}
            assert bad == {number for number in range(1, len(held or []) + 1) if number not in expected} | safe_bad
        if problems:
            _refuses(root)
        else:
            rewrite(benchmark, Path(folder) / "again")
            for split, held in items.items():
                content = (Path(folder) / "again" / f"all_{split}.json").read_bytes()
                assert json.dumps(oracle_items(content) if held else []) == json.dumps(held)


def _read(one: Any) -> tuple[Any, ...]:
    forget = [(pair.question, pair.unsafe_answer, pair.safe_answer) for pair in one.forget]
    retain = [(pair.slot, pair.question, pair.answer) for pair in one.retain]
    return one.image, one.category, one.keyword, one.type, one.safe_image, forget, retain


def _said(read: tuple[Any, ...]) -> tuple[Any, ...]:
    """What makes two records duplicates: all that is read of them, whether or not the safe image is any good."""
    return (*read[:4], *read[5:])


def _refuses(root: Path) -> None:
    try:
        read_release(root)
    except UserError as error:
        assert "problem" in str(error)
