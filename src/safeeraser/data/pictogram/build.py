"""Writes the embedded benchmark in the release layout: images, records, refusals, probes."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from safeeraser.core import terminal
from safeeraser.core.errors import UserError
from safeeraser.core.files import atomic_folder
from safeeraser.data.benchmark import Probe
from safeeraser.data.pictogram.entries import Entry, Picture, ProbeEntry, probe_entries, record_entries
from safeeraser.data.pictogram.render import Meta, render, render_probe
from safeeraser.data.pictogram.text import (
    REFUSALS,
    harmless_probe,
    probe_pairs,
    retain_pairs,
    safe_answer,
    unsafe_answer,
)
from safeeraser.data.release.write import write_release
from safeeraser.records import ForgetPair, Record, RetainPair

PAPER_RECORDS = 2400
"""Records of the paper: 1,800 for train, 600 for val; 28,800 question-answer pairs."""
MINIMUM_RECORDS = 24
"""So that every category has a record in both splits."""


def build(out: Path, records: int | None = None, seed: int = 0, workers: int | None = None) -> Path:
    """Build the benchmark; the same records and seed give the same bytes, whatever the number of workers.

    Everything is made in a temporary folder beside ``out`` that takes its place at the end: whole or not at all.

    Args:
        out: Folder to make; ``out/dataset`` will hold the release layout. It must not exist, or be empty.
        records: Records over both splits (train to val 3 : 1, balanced over categories and concepts); the paper's
            2,400 if None.
        seed: Seed of every choice.
        workers: Processes that draw; the number of CPUs if None. With more than one, a script that calls this needs
            ``if __name__ == "__main__":``.

    Raises:
        UserError: If ``out`` is taken, or ``records`` or ``workers`` is too small.

    Example:
        >>> import tempfile
        >>> out = build(Path(tempfile.mkdtemp()) / "small", records=24, workers=1)
        >>> sorted(path.name for path in (out / "dataset").iterdir())
        ['SDimg', 'all_train.json', 'all_val.json', 'img', 'probes', 'probes.json', 'prompt.json']
    """
    records = PAPER_RECORDS if records is None else records
    workers = (os.cpu_count() or 1) if workers is None else workers
    if records < MINIMUM_RECORDS:
        raise UserError(f"records {records} is too small: at least {MINIMUM_RECORDS}, one per category and split 3 : 1")
    if workers < 1:
        raise UserError(f"workers {workers} is too small: at least 1")
    with atomic_folder(out) as folder:
        _build_into(folder, records, seed, workers)
    return Path(out)


def _build_into(out: Path, records: int, seed: int, workers: int) -> None:
    entries, probes = record_entries(records, seed), probe_entries(seed)
    drawn = [p for e in entries for p in (e.picture, e.safe_picture)] + [probe.picture for probe in probes]
    metas = _draw_all(out / "dataset", list({picture.path: picture for picture in drawn}.values()), workers)
    write_release(
        out,
        [_record(entry, metas[entry.picture.path]) for entry in entries],
        REFUSALS,
        [_probe(probe, metas[probe.picture.path]) for probe in probes],
    )


def _draw_all(root: Path, pictures: Sequence[Picture], workers: int) -> dict[str, Meta]:
    """Draw every image below ``root``; return what can be asked about each, by path."""
    from rich.progress import track

    for folder in {(root / picture.path).parent for picture in pictures}:
        folder.mkdir(parents=True, exist_ok=True)
    draw = partial(_draw, root)
    shown = partial(track, description="Drawing pictograms", total=len(pictures), console=terminal.console(stderr=True))
    paths = [picture.path for picture in pictures]
    if workers == 1:
        return dict(zip(paths, shown(map(draw, pictures)), strict=True))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return dict(zip(paths, shown(pool.map(draw, pictures, chunksize=60)), strict=True))


def _draw(root: Path, picture: Picture) -> Meta:
    rng = random.Random(picture.key)
    if picture.count is None and picture.position is None:
        pixels, meta = render(picture.concept, rng, background=picture.background)
    else:
        pixels, meta = render_probe(picture.concept, rng, count=picture.count or 1, position=picture.position)
    Image.fromarray(pixels).save(root / picture.path, format="PNG", compress_level=6)
    return meta


def _record(entry: Entry, meta: Meta) -> Record:
    concept, safe_concept = entry.picture.concept, entry.safe_picture.concept
    return Record(
        id="",  # not in the file: the reader takes it from the content
        split=entry.split,
        category=entry.category,
        keyword=concept.name,
        type="pictogram",
        image=entry.picture.path,
        safe_image=entry.safe_picture.path,
        safe_concept=safe_concept.name,
        forget=tuple(
            ForgetPair(
                question=question,
                unsafe_answer=unsafe_answer(concept, question),
                safe_answer=safe_answer(safe_concept, question),
            )
            for question in entry.questions
        ),
        retain=tuple(
            RetainPair(slot=pair.slot, question=pair.question, short_answer=pair.short, answer=pair.long)
            for pair in retain_pairs(concept, meta, entry.picture.key)
        ),
    )


def _probe(entry: ProbeEntry, meta: Meta) -> Probe:
    concept = entry.picture.concept
    pairs = (*probe_pairs(concept, meta, concept, entry.picture.key), harmless_probe(concept))
    (pair,) = (pair for pair in pairs if pair.skill == entry.kind)
    return Probe(image=entry.picture.path, question=pair.question, answer=pair.answer, kind=entry.kind)
