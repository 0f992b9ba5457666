"""Training samples: each forget pair with a retain pair and with the decouple pair of the same record and question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from safeeraser.errors import UserError
from safeeraser.records import Record
from safeeraser.store import stable_hash


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
    return [_triple(record, index) for record in records for index in range(len(record.forget))]


def _triple(record: Record, index: int) -> Triple:
    if not record.retain:
        raise UserError(
            f"record {record.id} ({record.image}) has no retain pair: training needs at least one of UnharmPair_text1, "
            "UnharmPair_text2, UnharmPair_image1, UnharmPair_image2"
        )
    forget, retain = record.forget[index], record.retain[index % len(record.retain)]
    has_safe = record.safe_image is not None and forget.safe_answer is not None
    return Triple(
        record_id=record.id,
        index=index,
        image=record.image,
        safe_image=record.safe_image if has_safe else None,
        forget_question=forget.question,
        unsafe_answer=forget.unsafe_answer,
        retain_question=retain.question,
        retain_answer=retain.answer,
        safe_answer=forget.safe_answer if has_safe else None,
    )


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
