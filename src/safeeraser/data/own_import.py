"""Turns the drafts of ``own`` into a benchmark folder: checks, splits, copies images, writes the release layout."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from safeeraser.data.images import decode
from safeeraser.data.own import Draft, find_table, read_table
from safeeraser.data.paths import locate
from safeeraser.data.problems import Problem
from safeeraser.data.rewrite import write_release
from safeeraser.data.safe_images import content_hash
from safeeraser.errors import UserError
from safeeraser.progress import Progress
from safeeraser.records import ForgetPair, Record, RetainPair, Split
from safeeraser.store import stable_hash

SLOTS = ("image1", "image2", "text1", "text2")
"""Where the retain pairs of a record go, in this order; more than four have no place in the layout."""
VAL_SHARE = 4
"""One record in this many is for val, as in the paper."""
RETAIN = "retain_question"
_RETAIN_HINT = (
    "training needs a retain pair for every image: fill retain_question and retain_answer in one of its rows, or give "
    "one for all images that have none: --retain-question 'What is shown?' --retain-answer 'It is a {keyword}.'"
)
SHOWN = 50
"""Problems that the error lists."""


@dataclass(frozen=True)
class RetainTemplate:
    """A retain pair for records that have none; both texts may name {keyword} and {category}."""

    question: str
    answer: str


def import_table(
    source: Path,
    out: Path,
    refusals: Sequence[str],
    images: Path | None = None,
    retain: RetainTemplate | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Record]:
    """Make a benchmark of a table and its images.

    Everything is made in a temporary folder beside ``out`` that takes its place at the end: whole or not at all.

    Args:
        source: CSV or JSON lines, see ``own.COLUMNS``; or a folder that holds one as data.csv or data.jsonl.
        out: Folder to make; ``out/dataset`` will hold the release layout. It must not exist, or be empty.
        refusals: For ``prompt.json``.
        images: Folder that image paths start from, and must not leave; the table's if None.
        retain: For records without a retain pair; None: they are an error.
        seed: Decides the split where the table does not: three records for train to one for val within each category,
            records that share a safe image together.
        progress: Called with (decoded images, all images).

    Returns:
        The records, as they are written.

    Raises:
        UserError: If ``out`` is taken or anything is wrong with the table; the message lists everything that is.

    Example:
        >>> import_table(Path("mine/data.csv"), Path("data/mine"), ["I am sorry, but I cannot."])  # doctest: +SKIP
    """
    out = Path(out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder: remove it or choose another --out")
    table, problems = find_table(Path(source)), list[Problem]()
    root = table.parent if images is None else Path(images)
    drafts = read_table(table, problems)
    if not drafts and not problems:
        problems.append(Problem(table.name, None, "", "holds no row"))
    _check_pairs(table.name, drafts, retain, problems)
    contents = _check_images(table.name, drafts, root, problems, progress)
    if problems:
        raise _refusal(table, problems)
    splits = _split(table, drafts, contents, seed)
    names = _names(drafts, contents)
    records = [_record(draft, splits[draft.image], names, retain) for draft in drafts]
    _write(out, records, refusals, {names[image]: root / image for image in names})
    return records


def _refusal(table: Path, problems: Sequence[Problem]) -> UserError:
    ordered = sorted(problems, key=lambda problem: problem.record or 0)
    unit, name = ("line", "column") if table.suffix.lower() == ".csv" else ("record", "field")
    lines = [f"{table}: {len(ordered):,} problem{'s' if len(ordered) > 1 else ''}"]
    for problem in ordered[:SHOWN]:
        place = [f"{unit} {problem.record}"] if problem.record else []
        place += [f"{name} {problem.field}"] if problem.field else []
        lines.append(": ".join([", ".join(place), problem.message] if place else [problem.message]))
    if len(ordered) > SHOWN:
        lines.append(f"and {len(ordered) - SHOWN:,} more")
    if any(problem.field == RETAIN for problem in ordered):
        lines.append(_RETAIN_HINT)
    return UserError("\n  ".join(lines))


def _check_pairs(file: str, drafts: Sequence[Draft], retain: RetainTemplate | None, problems: list[Problem]) -> None:
    for draft in drafts:
        if not draft.forget:
            problems.append(
                Problem(file, draft.row, "question", f"{draft.image} has no question with an unsafe_answer")
            )
        if any(safe for _, _, safe in draft.forget) and "safe_image" not in draft.values:
            problems.append(
                Problem(file, draft.row, "safe_image", f"{draft.image} has a safe_answer, but no safe_image")
            )
        if len(draft.retain) > len(SLOTS):
            message = f"{draft.image} has {len(draft.retain)} retain pairs; at most {len(SLOTS)} have a place"
            problems.append(Problem(file, draft.row, "retain", message))
        if not draft.retain and retain is None:
            problems.append(Problem(file, draft.row, RETAIN, f"{draft.image} has no retain pair"))
        elif not draft.retain and retain is not None:
            for name in ("keyword", "category"):
                if f"{{{name}}}" in retain.question + retain.answer and not _value(draft, name):
                    message = f"{draft.image} has none, but --retain-question or --retain-answer names it"
                    problems.append(Problem(file, draft.row, name, message))


def _check_images(
    file: str, drafts: Sequence[Draft], root: Path, problems: list[Problem], progress: Progress | None
) -> dict[str, str]:
    """Hash of what each image shows, by its path in the table; also that no picture stands where it must not."""
    used = [(draft, "image", draft.image) for draft in drafts]
    used += [(d, "safe_image", d.values["safe_image"]) for d in drafts if "safe_image" in d.values]
    contents: dict[str, str] = {}
    first: dict[str, str] = {}
    for done, (draft, field, image) in enumerate(used, 1):
        if image not in contents:
            try:
                contents[image] = content_hash(decode(locate(root, image)[0]))
            except UserError as error:
                problems.append(Problem(file, draft.row, field, f"{image!r}: {error}"))
                continue
        if field == "image" and first.setdefault(contents[image], image) != image:
            message = f"{image} shows the same as {first[contents[image]]}: take one of them out"
            problems.append(Problem(file, draft.row, field, message))
        elif field == "safe_image" and contents[image] in first:
            message = f"{image} shows the same as the unsafe image {first[contents[image]]}"
            problems.append(Problem(file, draft.row, field, message))
        if progress:
            progress(done, len(used))
    return contents


def _value(draft: Draft, name: str) -> str:
    """A shared value of a draft; the category is the image's folder where the table does not say."""
    if name == "category":
        return draft.values.get("category") or PurePosixPath(draft.image).parent.name or "Unsafe"
    return draft.values.get(name, "")


def _split(table: Path, drafts: Sequence[Draft], contents: Mapping[str, str], seed: int) -> dict[str, Split]:
    """The split of each image; images that share a safe image are kept together."""
    groups: dict[str, list[Draft]] = {}
    for draft in drafts:
        safe = draft.values.get("safe_image")
        groups.setdefault(f"safe {contents[safe]}" if safe else draft.image, []).append(draft)
    splits: dict[str, Split] = {}
    waiting: list[list[Draft]] = []
    for key in sorted(groups, key=lambda key: stable_hash("split", seed, key)):
        group = groups[key]
        given = {draft.values["split"] for draft in group if "split" in draft.values}
        if len(given) > 1:
            images = ", ".join(draft.image for draft in group)
            raise UserError(f"{table}: {images} share a safe image, so that they must stand in the same split")
        if given:
            splits |= {draft.image: "val" if "val" in given else "train" for draft in group}
        else:
            waiting.append(group)
    sizes = Counter(_value(draft, "category") for draft in drafts)
    in_val = Counter(_value(draft, "category") for draft in drafts if splits.get(draft.image) == "val")
    for group in waiting:
        after = in_val + Counter(_value(draft, "category") for draft in group)
        wanted = sum(min(after[name], round(sizes[name] / VAL_SHARE)) - in_val[name] for name in after)
        chosen: Split = "val" if 2 * wanted >= len(group) else "train"
        in_val = after if chosen == "val" else in_val
        splits |= {draft.image: chosen for draft in group}
    counts = {split: sum(found == split for found in splits.values()) for split in ("train", "val")}
    if not all(counts.values()):
        found = f"{counts['train']} records for train and {counts['val']} for val"
        raise UserError(f"{table}: {found}; each split needs one at least: add images, or fill the column split")
    return splits


def _names(drafts: Sequence[Draft], contents: Mapping[str, str]) -> dict[str, str]:
    """Path in the release of every image of the table; safe images that show the same are one file."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    safe_names: dict[str, str] = {}
    for draft in drafts:
        names[draft.image] = _free(f"img/{_word(_value(draft, 'category'))}", draft.image, taken)
        safe = draft.values.get("safe_image")
        if safe:
            if contents[safe] not in safe_names:
                safe_names[contents[safe]] = _free("SDimg", safe, taken)
            names[safe] = safe_names[contents[safe]]
    return names


def _free(folder: str, image: str, taken: set[str]) -> str:
    """A path in the folder that is not taken on any file system, near the image's own name."""
    path = PurePosixPath(image)
    stem, suffix = _word(path.stem), path.suffix.lower()
    name, count = f"{folder}/{stem}{suffix}", 1
    while name.lower() in taken:
        count += 1
        name = f"{folder}/{stem}-{count}{suffix}"
    taken.add(name.lower())
    return name


def _word(text: str) -> str:
    return re.sub(r"[^\w-]+", "-", text).strip("-")[:60] or "image"


def _record(draft: Draft, split: Split, names: Mapping[str, str], template: RetainTemplate | None) -> Record:
    retain = draft.retain
    if not retain and template is not None:
        words = {name: _value(draft, name) for name in ("keyword", "category")}
        question, answer = (_filled(text, words) for text in (template.question, template.answer))
        retain = [(question, None, answer)]
    safe_image = draft.values.get("safe_image")
    pairs = dict(zip(SLOTS, retain, strict=False))
    # the source says what the file is to hold where a record cannot: a short answer without a long one
    source: dict[str, Any] = {
        f"UnharmPair_{slot}": {"Question": question, "Answer": short}
        for slot, (question, long, short) in pairs.items()
        if long is None
    }
    return Record(
        id="",  # not in the file: the reader takes it from the content
        split=split,
        category=_value(draft, "category"),
        keyword=_value(draft, "keyword"),
        type="own",
        image=names[draft.image],
        safe_image=names[safe_image] if safe_image else None,
        forget=tuple(
            ForgetPair(question=q, unsafe_answer=unsafe, safe_answer=safe) for q, unsafe, safe in draft.forget
        ),
        retain=tuple(
            RetainPair(slot=slot, question=question, short_answer=short or "", answer=long or short or "")
            for slot, (question, long, short) in pairs.items()
        ),
        source=source,
    )


def _filled(text: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        text = text.replace(f"{{{name}}}", word)
    return text


def _write(out: Path, records: Sequence[Record], refusals: Sequence[str], files: Mapping[str, Path]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for relative, path in files.items():
            target = workspace / "new" / "dataset" / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        write_release(workspace / "new", records, refusals)
        os.replace(workspace / "new", out)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
