"""Reads and checks a folder in the release layout; ``write`` is its counterpart."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar, get_args

from pydantic import AliasChoices, BaseModel, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from safeeraser.config import OnBad
from safeeraser.core.errors import UserError
from safeeraser.core.files import hash_files, stable_hash
from safeeraser.core.terminal import Progress, say
from safeeraser.data.benchmark import Benchmark, Layout, Probe, ProbeKind
from safeeraser.data.images import unreadable
from safeeraser.data.paths import locate
from safeeraser.data.release.json import MUST_BE, Item, Items, is_blank, read_items, read_value, validate
from safeeraser.data.release.problems import Problem, refusal, summary
from safeeraser.data.release.write import PROBES, PROMPTS, SPLITS
from safeeraser.records import ForgetPair, Record, RetainPair, Split

SLOTS = ("text1", "text2", "image1", "image2")
"""Retain pairs of a record, in this order: two about the concept, two about the image."""
_FILES = (*(f"all_{split}.json" for split in SPLITS), PROMPTS, PROBES)
_MUST_BE = {
    "image_path": "a path in the dataset folder (or image_id)",
    "unsafe_pairs": "a list of at least one object",
    "kind": f"one of {', '.join(get_args(ProbeKind))}",
}


class _ForgetLayout(BaseModel):
    question: str
    model_response: str
    sd_response: str | None = None


class _RetainLayout(BaseModel):
    Question: str
    Answer: str | None = None
    Prediction: str | None = Field(default=None, validate_default=True)

    @field_validator("Prediction")
    @classmethod
    def _is_answered(cls, prediction: str | None, info: ValidationInfo) -> str | None:
        if prediction is None and info.data.get("Answer", "") is None:
            raise PydanticCustomError(MUST_BE, "the answer to train on and to score against (or Answer)")
        return prediction


class _RecordLayout(BaseModel):
    """A record as the release writes it; other keys are passed over, and kept in ``Record.source``."""

    image: str = Field(validation_alias=AliasChoices("image_path", "image_id"))
    category: str = ""
    keyword: str = ""
    type: str = ""
    SDImage_path: str | None = None
    SDkeyword: str | None = None
    unsafe_pairs: list[_ForgetLayout] = Field(min_length=1)
    UnharmPair_text1: _RetainLayout | None = None
    UnharmPair_text2: _RetainLayout | None = None
    UnharmPair_image1: _RetainLayout | None = None
    UnharmPair_image2: _RetainLayout | None = None


class _ProbeLayout(BaseModel):
    image: str
    question: str
    answer: str
    kind: ProbeKind


def read_release(folder: Path, on_bad: OnBad = "fail") -> Benchmark:
    """Read a folder in the release layout; image files must be there, but are not looked into (see ``examine``).

    Args:
        folder: The dataset folder, or its parent if the dataset folder is called ``dataset``.
        on_bad: What to do about problems: "fail" reports all of them in one error; "skip" leaves out records with a
            problem, keeps a record whose safe image has one without its PD pairs, and warns on standard error. A file
            that cannot be read as a whole is an error in either case.

    Returns:
        The benchmark, under the folder's name. A missing ``prompt.json`` or ``probes.json`` means none of them.

    Raises:
        UserError: If there is no split file; if something is wrong; if nothing is left after skipping.
    """
    if on_bad not in get_args(OnBad):
        raise UserError(f"on_bad {on_bad!r} is unknown: available: {', '.join(get_args(OnBad))}")
    benchmark, problems = examine(folder, images=False)
    if benchmark is None or (problems and on_bad == "fail"):
        raise refusal(folder, problems)
    if problems:
        bad = len({(problem.file, problem.record) for problem in problems})
        count = f"{folder}: {bad:,} of its records have a problem ({summary(problems)})"
        if not benchmark.records:
            raise UserError(f"{count}, no record is left; see them all: safeeraser data check {folder}")
        left = f"they, or their PD pairs if only the safe image is bad, are left out: {len(benchmark.records):,} remain"
        say(f"warning: {count}; {left}; see them all: safeeraser data check {folder}", file=sys.stderr)
    return benchmark


def examine(
    folder: Path, images: bool = True, progress: Progress | None = None
) -> tuple[Benchmark | None, list[Problem]]:
    """Find everything that is wrong with a folder in the release layout.

    Args:
        folder: As for ``read_release``.
        images: Decode every image whole; else only see that the files are there, inside the folder.
        progress: Called with (decoded images, all images).

    Returns:
        The benchmark of what is good, None if a file cannot be used as a whole; and all problems, in the order of files
        and records. A record whose safe image has a problem is kept, with ``safe_image`` None.

    Raises:
        UserError: If there is no split file at all.
    """
    folder = Path(folder).expanduser()
    root = next((root for root in (folder / "dataset", folder) if _split_files(root)), None)
    if root is None:
        raise UserError(f"{folder}: neither all_train.json nor all_val.json is here or in {folder / 'dataset'}")
    problems: list[Problem] = []
    splits = {split: read_items(path, problems) for split, path in _split_files(root).items()}
    records = [entry for split, file in splits.items() for entry in _records(file, split, problems)]
    prompts = _read_prompts(root / PROMPTS, problems) if os.path.lexists(root / PROMPTS) else None
    probe_file = read_items(root / PROBES, problems) if os.path.lexists(root / PROBES) else None
    probes = _probes(probe_file, problems) if probe_file else []
    paths = [*(p for entry in records for p in entry.images.values()), *(probe.item.image for probe in probes)]
    sizes, reasons = _look_at_images(root, dict.fromkeys(paths), images, progress)
    kept_records = []
    for entry in records:
        bad = _image_problems(entry, reasons, problems)
        if bad <= {"SDImage_path"}:
            kept_records.append(entry.item.model_copy(update={"safe_image": None}) if bad else entry.item)
    kept_probes = tuple(entry.item for entry in probes if not _image_problems(entry, reasons, problems))
    problems.sort(key=lambda problem: (_FILES.index(problem.file), problem.record or 0))
    if any(problem.record is None for problem in problems):
        return None, problems
    used = {path for record in kept_records for path in (record.image, record.safe_image) if path}
    used |= {probe.image for probe in kept_probes}
    files = [root / name for name in _FILES if (root / name).is_file()]
    benchmark = Benchmark(
        name=folder.resolve().name,
        root=root,
        records=tuple(kept_records),
        refusals=tuple(prompts["idk"]) if prompts else (),
        probes=kept_probes,
        fingerprint=stable_hash(hash_files(files), [(path, sizes[path]) for path in sorted(used)]),
        layout=Layout(
            {split: file.form for split, file in splits.items()}, prompts, probe_file.form if probe_file else None
        ),
    )
    return benchmark, problems


T = TypeVar("T", Record, Probe)


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """A record or probe, where it stands, and its image paths by the name of their field."""

    item: T
    file: str
    number: int
    images: dict[str, str]


def _split_files(root: Path) -> dict[Split, Path]:
    return {split: path for split in SPLITS if os.path.lexists(path := root / f"all_{split}.json")}


def _records(file: Items, split: Split, problems: list[Problem]) -> list[_Entry[Record]]:
    """The records without a problem of their own; of several that say the same, the first."""
    entries: dict[str, _Entry[Record]] = {}
    for item in file.items:
        layout = validate(_RecordLayout, file.name, item, problems, _MUST_BE)
        if layout is None:
            continue
        record = _record(layout, split, item)
        if record.id in entries:
            message = f"is a duplicate: it says the same as record {entries[record.id].number}"
            problems.append(Problem(file.name, item.number, "", message))
            continue
        field = "image_id" if is_blank(item.value.get("image_path")) else "image_path"
        images = {field: record.image} | ({"SDImage_path": record.safe_image} if record.safe_image else {})
        entries[record.id] = _Entry(record, file.name, item.number, images)
    return [*entries.values()]


def _record(layout: _RecordLayout, split: Split, item: Item) -> Record:
    retain = [(slot, pair) for slot in SLOTS if (pair := getattr(layout, f"UnharmPair_{slot}")) is not None]
    record = Record(
        id="",
        split=split,
        category=layout.category or PurePosixPath(layout.image).parent.name,
        keyword=layout.keyword,
        type=layout.type,
        image=layout.image,
        safe_image=layout.SDImage_path,
        safe_concept=layout.SDkeyword,
        forget=tuple(
            ForgetPair(question=pair.question, unsafe_answer=pair.model_response, safe_answer=pair.sd_response)
            for pair in layout.unsafe_pairs
        ),
        retain=tuple(
            RetainPair(slot=slot, question=pair.Question, short_answer=short, answer=pair.Prediction or short)
            for slot, pair in retain
            for short in [pair.Answer or ""]
        ),
    )
    id = stable_hash(record.model_dump(exclude={"id", "source"}))
    return record.model_copy(update={"id": id, "source": item.value})


def _probes(file: Items, problems: list[Problem]) -> list[_Entry[Probe]]:
    entries = []
    for item in file.items:
        layout = validate(_ProbeLayout, file.name, item, problems, _MUST_BE)
        if layout is not None:
            probe = Probe(**layout.model_dump(), source=item.value)
            entries.append(_Entry(probe, file.name, item.number, {"image": probe.image}))
    return entries


def _read_prompts(path: Path, problems: list[Problem]) -> dict[str, list[str]] | None:
    """The content of ``prompt.json``, if its refusals are texts."""
    before = len(problems)
    content = read_value(path, problems)
    if len(problems) > before:
        return None
    refusals = content.get("idk") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(refusals, list):
        must = 'must be a list of refusals: {"idk": ["I am sorry, but ...", ...]}'
        problems.append(Problem(path.name, None, "idk", must))
        return None
    bad = [index for index, text in enumerate(refusals) if not isinstance(text, str) or is_blank(text)]
    problems += [Problem(path.name, None, f"idk[{index}]", "is blank or no text; it must be a text") for index in bad]
    return content


def _look_at_images(
    root: Path, relatives: Iterable[str], inside: bool, progress: Progress | None
) -> tuple[dict[str, int], dict[str, str]]:
    """The sizes of the images that are there, and why the others cannot be used, by path."""
    files: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for relative in relatives:
        try:
            files[relative], sizes[relative] = locate(root, relative)
        except UserError as error:
            reasons[relative] = str(error)
    if inside:
        damaged = unreadable([*dict.fromkeys(files.values())], progress)
        bad = {relative: damaged[path] for relative, path in files.items() if path in damaged}
        reasons |= {relative: f"{relative!r} cannot be read: {reason}" for relative, reason in bad.items()}
    return sizes, reasons


def _image_problems(entry: _Entry[T], reasons: Mapping[str, str], problems: list[Problem]) -> set[str]:
    """Add a problem for each image that is bad, and return their fields."""
    bad = {field: reasons[path] for field, path in entry.images.items() if path in reasons}
    problems += [Problem(entry.file, entry.number, field, reason) for field, reason in bad.items()]
    return set(bad)
