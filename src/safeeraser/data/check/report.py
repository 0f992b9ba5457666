"""What ``safeeraser data check`` looks at, gathered in one report: integrity, counts, duplicates, leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from safeeraser.data.benchmark import Benchmark
from safeeraser.data.check.duplicates import Border, SamePicture, same_pictures
from safeeraser.data.check.hashes import NEAR_BITS, ImageHash
from safeeraser.data.check.held_out import HeldOut
from safeeraser.data.check.leaks import ALWAYS, Leak, NearPair, Through, find_leaks, held_out_ids, near_pairs
from safeeraser.data.check.texts import TEXTS, TextCount, text_counts
from safeeraser.records import Frozen, Split

CATEGORIES = ("HateSpeech", "IllegalActivity", "Privacy", "Sex", "Violence", "Weapon")
PAPER: dict[Split, tuple[int, int]] = {"train": (300, 75), "val": (100, 25)}
"""Records and safe images of each category (SafeEraser, arXiv 2502.12520): 2,400 records with an image each, 600 safe
images; with four pairs per record and set, 9,600 forget, 9,600 retain and 9,600 decouple pairs."""
PAIRS_PER_RECORD = 4


class Count(Frozen):
    """How many there are of something in a category and split, and how many the paper has."""

    what: str
    split: Split
    category: str
    found: int
    paper: int


class CheckReport(Frozen):
    """All that was found; ``data check --out`` writes it as JSON.

    ``counted`` says which leaks count: the records that leak through these are not in ``held_out``.
    """

    benchmark: str
    fingerprint: str
    problems: tuple[str, ...]
    counts: tuple[Count, ...]
    same_pictures: tuple[SamePicture, ...]
    near: tuple[NearPair, ...]
    near_bits: int
    texts: tuple[TextCount, ...]
    leaks: tuple[Leak, ...]
    counted: tuple[Through, ...]
    val_records: int
    held_out: tuple[str, ...]

    @property
    def leaked(self) -> int:
        """Val records with a leak that counts."""
        return self.val_records - len(self.held_out)

    def leaked_through(self) -> dict[Through, Counter[str]]:
        """Leaking val records by ``through`` and category."""
        counters: dict[Through, Counter[str]] = {}
        for leak in self.leaks:
            counters.setdefault(leak.through, Counter())[leak.category] += 1
        return counters

    def as_json(self) -> dict[str, Any]:
        """The report with the numbers that follow from its lists."""
        return self.model_dump() | {
            "leaked": self.leaked,
            "leaked_through": self.leaked_through(),
            "borders": self.borders(),
        }

    def borders(self) -> Counter[Border]:
        """Images by the border that they cross."""
        return Counter(border for same in self.same_pictures for border in same.borders)

    def held_out_file(self) -> HeldOut:
        """The content of the file that ``score`` and ``bench`` read."""
        return HeldOut(
            benchmark=self.benchmark,
            fingerprint=self.fingerprint,
            through=self.counted,
            leaked=self.leaked,
            records=self.held_out,
        )


def images_of(benchmark: Benchmark) -> set[str]:
    """Every image that a record or probe names."""
    named = {path for record in benchmark.records for path in (record.image, record.safe_image) if path is not None}
    return named | {probe.image for probe in benchmark.probes}


def check(
    benchmark: Benchmark,
    hashes: Mapping[str, ImageHash],
    problems: Sequence[str] = (),
    counted: Sequence[Through] = ALWAYS,
    near_bits: int = NEAR_BITS,
) -> CheckReport:
    """Gather the report.

    ``hashes`` are those of ``hash_images(benchmark, images_of(benchmark))``; ``problems`` say what is wrong with the
    files, one sentence each; ``counted`` leaks count; images that differ in up to ``near_bits`` of 256 look alike.

    Raises:
        UserError: If ``near_bits`` is out of range.
    """
    near = near_pairs(benchmark, hashes, near_bits)
    leaks = find_leaks(benchmark, hashes, near)
    return CheckReport(
        benchmark=benchmark.name,
        fingerprint=benchmark.fingerprint,
        problems=tuple(problems),
        counts=tuple(paper_counts(benchmark)),
        same_pictures=tuple(same_pictures(benchmark, hashes)),
        near=tuple(near),
        near_bits=near_bits,
        texts=tuple(text_counts(benchmark)),
        leaks=tuple(leaks),
        counted=tuple(counted),
        val_records=len(benchmark.split("val")),
        held_out=held_out_ids(benchmark, leaks, counted),
    )


def paper_counts(benchmark: Benchmark) -> list[Count]:
    """Count records, safe images and pairs per category and split, beside the paper's numbers.

    A category that the paper does not have is compared with 0.

    Example:
        >>> from pathlib import Path
        >>> counts = paper_counts(Benchmark("empty", Path("."), (), (), (), ""))
        >>> sum(count.paper for count in counts if count.what == "records")
        2400
    """
    categories = [*CATEGORIES, *sorted({record.category for record in benchmark.records} - set(CATEGORIES))]
    counts = []
    for category in categories:
        for split, (records, safe_images) in PAPER.items():
            same = [record for record in benchmark.split(split) if record.category == category]
            expected = {"records": records, "unsafe images": records, "safe images": safe_images}
            expected |= {f"{name} pairs": PAIRS_PER_RECORD * records for name in TEXTS}
            actual = {
                "records": len(same),
                "unsafe images": len({record.image for record in same}),
                "safe images": len({record.safe_image for record in same if record.safe_image is not None}),
            } | {f"{name} pairs": sum(len(texts(record)) for record in same) for name, texts in TEXTS.items()}
            for what, number in expected.items():
                paper = number if category in CATEGORIES else 0
                counts.append(Count(what=what, split=split, category=category, found=actual[what], paper=paper))
    return counts
