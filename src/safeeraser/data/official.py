"""The layout of the SafeEraser release, read and checked; ``rewrite`` writes it.

``dataset/all_train.json`` and ``dataset/all_val.json`` hold the records, as a JSON list or as JSON lines;
``dataset/prompt.json`` the refusals; ``dataset/probes.json``, our own and optional, capability probes. Copies in the
wild lack keys: what training and evaluation can do without may be missing; everything else that is wrong is found in
one pass and reported in one error. ``docs/data.md`` says what may be missing.
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar, get_args

from safeeraser.config import OnBad
from safeeraser.data.benchmark import Benchmark, Layout, Probe, ProbeKind
from safeeraser.data.fields import Fields
from safeeraser.data.image_files import ImageFiles
from safeeraser.data.json_file import Item, JsonFile
from safeeraser.data.problems import Problem, refusal, summary
from safeeraser.data.rewrite import PROBES, PROMPTS, SPLITS, rewrite, write_release
from safeeraser.errors import UserError
from safeeraser.progress import Progress
from safeeraser.records import ForgetPair, Record, RetainPair, Split
from safeeraser.spool import Spool
from safeeraser.store import hash_files, stable_hash
from safeeraser.terminal import say

__all__ = ["SLOTS", "SPLITS", "examine", "read_release", "rewrite", "write_release"]

SLOTS = ("text1", "text2", "image1", "image2")
"""Retain pairs of a record, in this order: two about the concept, two about the image."""
_FILES = (*(f"all_{split}.json" for split in SPLITS), PROMPTS, PROBES)


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

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp())
        >>> write_release(out, [], refusals=["I am sorry, but I cannot help."])
        >>> read_release(out).refusals
        ('I am sorry, but I cannot help.',)
    """
    if on_bad not in get_args(OnBad):
        raise UserError(f"on_bad {on_bad!r} is unknown: available: {', '.join(get_args(OnBad))}")
    benchmark, problems = examine(folder, images=False)
    if benchmark is None or (problems and on_bad == "fail"):
        raise refusal(folder, problems)
    if problems:
        bad = len({(problem.file, problem.record) for problem in problems})
        found = f"{folder}: {bad:,} of its records have a problem ({summary(problems)})"
        if not benchmark.records:
            raise UserError(f"{found}, no record is left; see them all: safeeraser data check {folder}")
        left = f"they, or their PD pairs if only the safe image is bad, are left out: {len(benchmark.records):,} remain"
        say(f"warning: {found}; {left}; see them all: safeeraser data check {folder}", file=sys.stderr)
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

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp())
        >>> write_release(out, [])
        >>> _ = (out / "dataset" / "all_val.json").write_text('[{"keyword": "axe"}]')
        >>> for problem in examine(out)[1]:
        ...     print(problem)
        all_val.json, record 1, field image_path: is missing; it must be a path in the dataset folder (or image_id)
        all_val.json, record 1, field unsafe_pairs: is missing; it must be a list of at least one object
    """
    folder = Path(folder)
    root = next((root for root in (folder / "dataset", folder) if _split_files(root)), None)
    if root is None:
        raise UserError(f"{folder}: neither all_train.json nor all_val.json is here or in {folder / 'dataset'}")
    problems: list[Problem] = []
    splits = {split: JsonFile(path, problems) for split, path in _split_files(root).items()}
    found, numbers = ImageFiles(root), array("I")
    records = Spool(_good_records(splits, problems, found, numbers))
    prompts = _read_prompts(JsonFile(root / PROMPTS, problems), problems) if os.path.lexists(root / PROMPTS) else None
    probe_file = JsonFile(root / PROBES, problems) if os.path.lexists(root / PROBES) else None
    probes = [*_read_probes(probe_file, problems)] if probe_file else []
    for probe in probes:
        found.find(probe.images)
    if images:
        found.look_inside(progress)
    used = set(found.sizes)
    if found.reasons:
        records = Spool(_with_images(zip(records, numbers, strict=True), found.reasons, problems))
        used = {path for record in records for path in (record.image, record.safe_image) if path}
    kept = [probe.item for probe in probes if not _image_problems(probe, found.reasons, problems)]
    used |= {probe.image for probe in kept}
    problems.sort(key=lambda problem: (_FILES.index(problem.file), problem.record or 0))
    if any(problem.record is None for problem in problems):
        return None, problems
    files = [root / name for name in _FILES if (root / name).is_file()]
    benchmark = Benchmark(
        name=folder.resolve().name,
        root=root,
        records=records,
        refusals=tuple(prompts["idk"]) if prompts else (),
        probes=tuple(kept),
        fingerprint=stable_hash(hash_files(files), [(path, found.sizes[path]) for path in sorted(used)]),
        layout=Layout(
            {split: file.form for split, file in splits.items()}, prompts, probe_file.form if probe_file else None
        ),
    )
    return benchmark, problems


T = TypeVar("T", Record, Probe)


@dataclass(frozen=True)
class _Placed(Generic[T]):
    """A record or probe, where it stands, and its image paths by the name of their field."""

    item: T
    file: str
    number: int
    images: dict[str, str]


def _split_files(root: Path) -> dict[Split, Path]:
    return {split: path for split in SPLITS if os.path.lexists(path := root / f"all_{split}.json")}


def _good_records(
    splits: Mapping[Split, JsonFile], problems: list[Problem], found: ImageFiles, numbers: array[int]
) -> Iterator[Record]:
    """The records without a problem of their own, one by one; looks for their images and notes their numbers."""
    for split, file in splits.items():
        for placed in _read_records(file, split, problems):
            found.find(placed.images)
            numbers.append(placed.number)
            yield placed.item


def _read_records(file: JsonFile, split: Split, problems: list[Problem]) -> Iterator[_Placed[Record]]:
    first: dict[str, int] = {}
    for item in file.items():
        before = len(problems)
        placed = _record(Fields(file.name, item.number, item.value, problems), split, item)
        if not item.clean or len(problems) > before:
            continue
        same = first.setdefault(placed.item.id, item.number)
        if same == item.number:
            yield placed
        else:
            problems.append(Problem(file.name, item.number, "", f"is a duplicate: it says the same as record {same}"))


def _record(fields: Fields, split: Split, item: Item) -> _Placed[Record]:
    """The record; of no use if it has problems."""
    field = _image_field(fields)
    image = fields.optional_text(field) or ""
    if fields.is_blank(field):
        fields.refuse(field, "a path in the dataset folder (or image_id)")
    retain = ((slot, fields.optional_object(f"UnharmPair_{slot}")) for slot in SLOTS)
    record = Record(
        id="",
        split=split,
        category=fields.optional_text("category") or PurePosixPath(image).parent.name,
        keyword=fields.optional_text("keyword") or "",
        type=fields.optional_text("type") or "",
        image=image,
        safe_image=fields.optional_text("SDImage_path"),
        safe_concept=fields.optional_text("SDkeyword"),
        forget=tuple(_forget_pair(pair) for pair in fields.objects("unsafe_pairs")),
        retain=tuple(_retain_pair(slot, pair) for slot, pair in retain if pair is not None),
    )
    id = stable_hash(record.model_dump(exclude={"id", "source"}))
    record = record.model_copy(update={"id": id, "source": item.value})
    return _Placed(record, fields.file, item.number, _images_of(record, field))


def _image_field(fields: Fields) -> str:
    return "image_id" if fields.is_blank("image_path") and not fields.is_blank("image_id") else "image_path"


def _images_of(record: Record, field: str) -> dict[str, str]:
    return {field: record.image} | ({"SDImage_path": record.safe_image} if record.safe_image else {})


def _forget_pair(fields: Fields) -> ForgetPair:
    return ForgetPair(
        question=fields.text("question"),
        unsafe_answer=fields.text("model_response"),
        safe_answer=fields.optional_text("sd_response"),
    )


def _retain_pair(slot: str, fields: Fields) -> RetainPair:
    question, short, long = fields.text("Question"), fields.optional_text("Answer"), fields.optional_text("Prediction")
    if fields.is_blank("Prediction") and fields.is_blank("Answer"):
        fields.refuse("Prediction", "the answer to train on and to score against (or Answer)")
    return RetainPair(slot=slot, question=question, short_answer=short or "", answer=long or short or "")


def _read_probes(file: JsonFile, problems: list[Problem]) -> Iterator[_Placed[Probe]]:
    for item in file.items():
        before = len(problems)
        fields = Fields(file.name, item.number, item.value, problems)
        image, question, answer, kind = (fields.text(name) for name in ("image", "question", "answer", "kind"))
        known = next((known for known in get_args(ProbeKind) if known == kind), None)
        if known is None and kind:
            fields.refuse("kind", f"one of {', '.join(get_args(ProbeKind))}")
        if known is not None and item.clean and len(problems) == before:
            probe = Probe(image=image, question=question, answer=answer, kind=known, source=item.value)
            yield _Placed(probe, file.name, item.number, {"image": image})


def _read_prompts(file: JsonFile, problems: list[Problem]) -> dict[str, Any] | None:
    """The content of ``prompt.json``, if its refusals are texts."""
    before = len(problems)
    content = file.value()
    if len(problems) > before:
        return None
    refusals = content.get("idk") if isinstance(content, dict) else None
    if isinstance(content, dict) and isinstance(refusals, list):
        for index, text in enumerate(refusals):
            if not isinstance(text, str) or not text.strip():
                message = f"is {json.dumps(text, default=str)[:60]}; it must be a text"
                problems.append(Problem(file.name, None, f"idk[{index}]", message))
        return content
    must = 'must be a list of refusals: {"idk": ["I am sorry, but ...", ...]}'
    problems.append(Problem(file.name, None, "idk", must))
    return None


def _with_images(
    records: Iterable[tuple[Record, int]], reasons: dict[str, str], problems: list[Problem]
) -> Iterator[Record]:
    """Of records and their numbers those whose image is good; without their safe image if that is bad."""
    for record, number in records:
        file = f"all_{record.split}.json"
        images = _images_of(record, _image_field(Fields(file, number, record.source, [])))
        bad = _image_problems(_Placed(record, file, number, images), reasons, problems)
        if bad <= {"SDImage_path"}:
            yield record.model_copy(update={"safe_image": None}) if bad else record


def _image_problems(entry: _Placed[Any], reasons: dict[str, str], problems: list[Problem]) -> set[str]:
    """Add a problem for each image that is bad, and return the fields."""
    bad = {field: reasons[path] for field, path in entry.images.items() if path in reasons}
    problems += [Problem(entry.file, entry.number, field, reason) for field, reason in bad.items()]
    return set(bad)
