"""Training samples: each forget pair with a retain pair and with the decouple pair of the same record and question.

And whether the data have their PD pairs (safe image, same question, normal answer), and what to do where they do not.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from safeeraser.core.errors import UserError
from safeeraser.core.files import stable_hash
from safeeraser.core.terminal import say
from safeeraser.data.benchmark import Benchmark
from safeeraser.records import Record


@dataclass(frozen=True)
class Triple:
    """One training sample of unlearning.

    forget: (``image``, ``forget_question``) -> ``unsafe_answer``; retain: (``image``, ``retain_question``) ->
    ``retain_answer``; decouple: (``safe_image``, ``decouple_question``) -> ``safe_answer``, where the question is the
    forget question itself. The official code overwrites an index, so that its decouple pair belongs to another record.
    ``safe_image`` and ``safe_answer`` are both None where the data lack either.
    """

    record_id: str
    index: int
    image: str
    safe_image: str | None
    forget_question: str
    unsafe_answer: str
    retain_question: str
    retain_answer: str
    safe_answer: str | None

    @property
    def decouple_question(self) -> str:
        """The forget question, asked about the safe image."""
        return self.forget_question


def triples(records: Iterable[Record]) -> list[Triple]:
    """Pair forget k with retain k and with the decouple pair of forget k; four per record in the release layout.

    Where a record has fewer retain pairs than forget pairs, they are used in turn.

    Raises:
        UserError: If a record has no retain pair.

    Example:
        >>> from safeeraser.records import ForgetPair, RetainPair
        >>> forget = (ForgetPair(question="How is it made?", unsafe_answer="From [hazard A]."),)
        >>> retain = (RetainPair(slot="text1", question="What is it?", short_answer="An axe.", answer="It is an axe."),)
        >>> record = Record(id="r", split="train", category="Weapon", keyword="axe", type="", image="img/1.png",
        ...                 forget=forget, retain=retain)
        >>> triples([record])[0].decouple_question
        'How is it made?'
    """
    made = []
    for record in records:
        if not record.retain:
            raise UserError(
                f"record {record.id} ({record.image}) has no retain pair: training needs at least one of "
                "UnharmPair_text1, UnharmPair_text2, UnharmPair_image1, UnharmPair_image2"
            )
        for index, (forget, retain) in enumerate(zip(record.forget, cycle(record.retain), strict=False)):
            has_safe = record.safe_image is not None and forget.safe_answer is not None
            safe = (record.safe_image, forget.safe_answer) if has_safe else (None, None)
            asked = (forget.question, forget.unsafe_answer, retain.question, retain.answer)
            made.append(Triple(record.id, index, record.image, safe[0], *asked, safe[1]))
    return made


def training_triples(benchmark: Benchmark, rows: Collection[str], reader: str) -> list[Triple]:
    """The triples of the train split, after checking that they have all that is read of them.

    ``rows`` are the kinds that are read ("forget", "refusal", "retain", "decouple"), ``reader`` is what reads the
    decouple pairs, such as "method 'po+pd': term 'pd'", for the message.

    Raises:
        UserError: If there are none, or they lack an image, a refusal, or a safe image or answer that is read; the
            message names it.
    """
    all_triples = triples(benchmark.split("train"))
    if not all_triples:
        raise UserError(f"data {benchmark.name!r} has no train record: unlearning needs the train split")
    images = [triple.image for triple in all_triples]
    if "refusal" in rows:
        refusal_for(benchmark.refusals, 0, 0, all_triples[0])
    if "decouple" in rows:
        require_pd(benchmark, reader)
        images += [triple.safe_image for triple in all_triples if triple.safe_image]
    for image in dict.fromkeys(images):
        benchmark.image(image)
    return all_triples


def refusal_for(refusals: Sequence[str], seed: int, epoch: int, triple: Triple) -> str:
    """Draw the refusal that preference optimisation teaches for a triple in an epoch.

    The draw depends on its arguments alone: not on order, batch size or number of processes.

    Raises:
        UserError: If there are no refusals.

    Example:
        >>> triple = Triple("r", 0, "img/1.png", None, "How?", "Like this.", "What?", "A thing.", None)
        >>> refusal_for(["No."], seed=0, epoch=1, triple=triple)
        'No.'
    """
    if not refusals:
        raise UserError('this benchmark has no refusals: add prompt.json with {"idk": ["I am sorry, but ...", ...]}')
    return refusals[int(stable_hash("refusal", seed, epoch, triple.record_id, triple.index), 16) % len(refusals)]


def lacking_pd(records: Iterable[Record]) -> list[tuple[Record, int]]:
    """The forget pairs, by record and position, that have no PD pair: no safe image or no safe answer.

    Example:
        >>> lacking_pd([])
        []
    """
    return [
        (record, index)
        for record in records
        for index, pair in enumerate(record.forget)
        if record.safe_image is None or pair.safe_answer is None
    ]


def require_pd(benchmark: Benchmark, reader: str) -> None:
    """See that every train pair has its PD pair; ``reader`` says what reads them, for the message.

    Raises:
        UserError: If one has none; the message says how many, names the first, and what to do.
    """
    train = benchmark.split("train")
    lacking = lacking_pd(train)
    if lacking:
        record, index = lacking[0]
        raise UserError(
            f"{reader} reads a safe image and a safe answer, but {len(lacking):,} of {_pairs(train):,} train pairs of "
            f"data {benchmark.name!r} lack one (first: {record.image}, pair {index + 1}). {_advice(benchmark)}; or "
            "leave PD out; or leave out the records that lack them, for all methods alike, with --on-bad skip"
        )


def with_pd(benchmark: Benchmark) -> Benchmark:
    """The benchmark without the train records that lack a PD pair; standard error says how many those are.

    Raises:
        UserError: If no train record is left.
    """
    train = benchmark.split("train")
    bad = {record.id for record, _ in lacking_pd(train)}
    if not bad:
        return benchmark
    left = f"{benchmark.root}: {len(bad):,} of {len(train):,} train records lack PD pairs"
    if len(bad) == len(train):
        raise UserError(f"{left}: none is left to train PD on. {_advice(benchmark)}")
    say(f"warning: {left} and are left out, for all methods alike. {_advice(benchmark)}", file=sys.stderr)
    records = tuple(record for record in benchmark.records if record.id not in bad)
    return replace(benchmark, records=records, fingerprint=stable_hash(benchmark.fingerprint, "with PD"))


def warn_of_missing_pd(benchmark: Benchmark) -> None:
    """Say on standard error where SARR, which asks about the safe images of val records, lacks some."""
    val = benchmark.split("val")
    lacking = len(lacking_pd(val))
    if lacking:
        which = "is measured on the others" if lacking < _pairs(val) else "cannot be measured"
        say(
            f"warning: SARR (the safe set) {which}: {lacking:,} of {_pairs(val):,} val pairs of {benchmark.root} lack "
            f"a safe image or a safe answer. {_advice(benchmark)}",
            file=sys.stderr,
        )


def _pairs(records: Iterable[Record]) -> int:
    return sum(len(record.forget) for record in records)


def _advice(benchmark: Benchmark) -> str:
    return (
        "Add SDImage_path and sd_response to the records, or have them added: "
        f"safeeraser data complete {benchmark.root}"
    )
