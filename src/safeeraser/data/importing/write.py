"""Makes a benchmark folder of the drafts of a table: checks, splits, copies images, writes the release layout."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from safeeraser.core.errors import UserError
from safeeraser.core.files import atomic_folder, stable_hash
from safeeraser.core.terminal import Progress, by_kind, say
from safeeraser.data.check.texts import normalised
from safeeraser.data.images import decode, pixel_hash
from safeeraser.data.importing.table import Draft, find_table, is_csv, read_table
from safeeraser.data.paths import locate
from safeeraser.data.release.problems import Problem
from safeeraser.data.release.write import write_release
from safeeraser.records import ForgetPair, Record, RetainPair, Split

SLOTS = ("image1", "image2", "text1", "text2")
"""Where the retain pairs of a record go, in this order; more than four have no place in the layout."""
VAL_SHARE = 4
"""One record in this many is for val, as in the paper."""
RETAIN = "retain_question"
_RETAIN_HINT = (
    "training needs a retain pair for every image: fill retain_question and retain_answer in one of its rows, or give "
    "one for all images that have none: --retain-question 'What is shown?' --retain-answer 'It is a {keyword}.'"
)


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
        source: CSV or JSON lines, see ``table.COLUMNS``; or a folder that holds one as data.csv or data.jsonl.
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
        UserError: If ``out`` is taken or anything is wrong with the table; the message says what.
    """
    with atomic_folder(out) as folder:
        table, problems = find_table(Path(source).expanduser()), list[Problem]()
        root = table.parent if images is None else Path(images).expanduser()
        warnings: list[Problem] = []
        drafts = read_table(table, problems, warnings)
        if not drafts and not problems:
            problems.append(Problem(table.name, None, "", "holds no row"))
        _check_pairs(table.name, drafts, retain, problems)
        _check_categories(table.name, drafts, problems)
        contents = _check_images(table.name, drafts, root, problems, progress)
        if problems:
            raise _refusal(table, problems)
        if warnings:
            count = f"{table}: {len(warnings):,} texts hold what looks like a control token of a model"
            say("\n".join([f"warning: {count}", *_listed(table, warnings)]), file=sys.stderr)
        splits = _split(table, drafts, contents, seed)
        names = _names(drafts, contents)
        records = [_record(draft, splits[draft.image], names, retain) for draft in drafts]
        for image, name in names.items():
            target = folder / "dataset" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(locate(root, image)[0], target)
        write_release(folder, records, refusals)
        return records


def _refusal(table: Path, problems: Sequence[Problem]) -> UserError:
    count = f"{table}: {len(problems):,} problem{'s' if len(problems) > 1 else ''}"
    hint = [f"  {_RETAIN_HINT}"] if any(problem.field == RETAIN for problem in problems) else []
    return UserError("\n".join([count, *_listed(table, problems), *hint]))


def _listed(table: Path, problems: Sequence[Problem]) -> list[str]:
    unit, name = ("line", "column") if is_csv(table) else ("record", "field")
    lines = []
    for problem in sorted(problems, key=lambda problem: problem.record or 0):
        place = [f"{unit} {problem.record}"] if problem.record else []
        place += [f"{name} {problem.field}"] if problem.field else []
        lines.append(": ".join([", ".join(place), problem.message] if place else [problem.message]))
    return by_kind(lines)


def _check_pairs(file: str, drafts: Sequence[Draft], retain: RetainTemplate | None, problems: list[Problem]) -> None:
    for draft in drafts:
        if draft.flawed:
            continue
        wrong: list[tuple[str, str]] = []
        if not draft.forget:
            wrong.append(("question", "has no question with an unsafe_answer"))
        if any(safe for _, _, safe in draft.forget) and "safe_image" not in draft.values:
            wrong.append(("safe_image", "has a safe_answer, but no safe_image"))
        if len(draft.retain) > len(SLOTS):
            wrong.append(("retain", f"has {len(draft.retain)} retain pairs; at most {len(SLOTS)} have a place"))
        if not draft.retain and retain is None:
            wrong.append((RETAIN, "has no retain pair"))
        elif not draft.retain and retain is not None:
            for name in ("keyword", "category"):
                if f"{{{name}}}" in retain.question + retain.answer and not _value(draft, name):
                    wrong.append((name, "has none, but --retain-question or --retain-answer names it"))
        problems += [Problem(file, draft.row, name, f"{draft.image} {message}") for name, message in wrong]


def _check_categories(file: str, drafts: Sequence[Draft], problems: list[Problem]) -> None:
    """Every number is also given by category, so that one that is spelt in two ways would be two."""
    known: dict[str, str] = {}
    for draft in drafts:
        name = _value(draft, "category")
        first = known.setdefault(normalised(name), name)
        if name != first:
            problems.append(Problem(file, draft.row, "category", f"{name!r} is spelt {first!r} in another row"))


def _check_images(
    file: str, drafts: Sequence[Draft], root: Path, problems: list[Problem], progress: Progress | None
) -> dict[str, str]:
    """Hash of what each image shows, by its path in the table; also that no image stands where it must not."""
    used = [(draft, "image", draft.image) for draft in drafts]
    used += [(d, "safe_image", d.values["safe_image"]) for d in drafts if "safe_image" in d.values]
    contents: dict[str, str] = {}
    first: dict[str, str] = {}
    for done, (draft, field, image) in enumerate(used, 1):
        if image not in contents:
            try:
                contents[image] = pixel_hash(decode(locate(root, image)[0]))
            except UserError as error:
                problems.append(Problem(file, draft.row, field, f"{image!r}: {error}"))
                continue
        message = ""
        if field == "image" and first.setdefault(contents[image], image) != image:
            message = f"{image} shows the same as {first[contents[image]]}: take one of them out"
        elif field == "safe_image" and contents[image] in first:
            message = f"{image} shows the same as the unsafe image {first[contents[image]]}"
        if message:
            problems.append(Problem(file, draft.row, field, message))
        if progress:
            progress(done, len(used))
    return contents


def _value(draft: Draft, name: str) -> str:
    """A shared value of a draft; the category is the image's folder where the table does not say."""
    if name == "category":
        name = draft.values.get("category") or PurePosixPath(draft.image).parent.name or "Unsafe"
        return unicodedata.normalize("NFC", name)
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
        named = {draft.values["split"] for draft in group if "split" in draft.values}
        if len(named) > 1:
            images = ", ".join(draft.image for draft in group)
            raise UserError(f"{table}: {images} share a safe image, so that they must stand in the same split")
        if named:
            splits |= {draft.image: "val" if "val" in named else "train" for draft in group}
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
    counts = {split: sum(chosen == split for chosen in splits.values()) for split in ("train", "val")}
    if not all(counts.values()):
        raise UserError(
            f"{table}: {counts['train']} records for train and {counts['val']} for val; each split needs one at least: "
            "add images, or fill the column split"
        )
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
    return re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", text)).strip("-")[:60] or "image"


def _record(draft: Draft, split: Split, names: Mapping[str, str], template: RetainTemplate | None) -> Record:
    retain = draft.retain
    if not retain and template is not None:
        question, answer = (
            text.replace("{keyword}", _value(draft, "keyword")).replace("{category}", _value(draft, "category"))
            for text in (template.question, template.answer)
        )
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
