"""Attack a cell: its val questions under every attack, answered, judged and scored; resumes by question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser import cell, locks, store
from safeeraser.attacks.asked import AttackedImages, attacked
from safeeraser.attacks.attack import NONE, Attack, Options, Subject
from safeeraser.errors import UserError
from safeeraser.records import Frozen, Query, QuerySet, Response, Score, Verdict
from safeeraser.terminal import say

if TYPE_CHECKING:
    from safeeraser.models import VisionLanguageModel

__all__ = ["METRICS", "planned", "read_translations", "run"]

FOLDER = "attacks"
"""Of a cell: a folder for each attack."""
SCORES = "attacks.json"
SETS: tuple[QuerySet, ...] = ("generality", "safe")
METRICS = ("asr_generality", "rr_generality", "sarr")
"""What is reported under every attack."""


class Attacked(Frozen):
    """What ``attacks.json`` of a cell holds: scores under each attack, and what they were found with."""

    judge: str
    seed: int
    limit: int | None
    attacks: dict[str, list[Score]]


class Translation(Frozen):
    """A line of the file for ``--translations``."""

    question: str
    translation: str


def read_translations(path: Path) -> dict[str, str]:
    """Read a JSONL file of ``{"question": ..., "translation": ...}``.

    Raises:
        UserError: If there is no such file, it holds none, or a line is something else.

    Example:
        >>> read_translations(Path("nowhere.jsonl"))
        Traceback (most recent call last):
        safeeraser.errors.UserError: --translations nowhere.jsonl: no such file
    """
    if not path.is_file():
        raise UserError(f"--translations {path}: no such file")
    found = {line.question: line.translation for line in store.read_jsonl(path, Translation)}
    if not found:
        raise UserError(f'--translations {path} holds none: a line is {{"question": ..., "translation": ...}}')
    return found


@dataclass(frozen=True)
class Planned:
    """What is asked of one cell under its attacks.

    Attributes:
        folder: The cell.
        subject: Its model.
        originals: Its own questions of val records.
        asked: The questions under each attack.
        limit: Records that were chosen; None: all.
    """

    folder: Path
    subject: Subject
    originals: list[Query]
    asked: list[tuple[Attack, list[Query]]]
    limit: int | None

    @property
    def size(self) -> int:
        """Questions in all."""
        return sum(len(queries) for _, queries in self.asked)

    def workspace(self, name: str) -> Path:
        """The folder of an attack."""
        return self.folder / FOLDER / name


def planned(folder: Path, attacks: Sequence[Attack], options: Options, limit: int | None = None) -> Planned:
    """Prepare the attacks on a finished cell; nothing is loaded or written yet.

    Args:
        folder: The cell.
        attacks: What to try; those that need an adapter are left out for the vanilla model.
        options: Of the attacks.
        limit: Val records to ask about, balanced over categories and keywords; all if None.

    Raises:
        UserError: If model or data are not what the cell was made with, the cell asked nothing about val, or an attack
            cannot change one of the questions.
    """
    from safeeraser import models

    spec = store.read_object(folder / "cell.json", cell.CellSpec)
    if spec.model_fingerprint and models.fingerprint(spec.model) != spec.model_fingerprint:
        raise UserError(f"{folder} was made with other weights than model {spec.model!r} has now: run the bench again")
    benchmark = cell.benchmark_of(spec)
    chosen = benchmark if limit is None else benchmark.limited(limit)
    val = {record.id: record for record in chosen.split("val")}
    queries = [q for q in store.read_jsonl(folder / "queries.jsonl", Query) if q.set in SETS]
    missing = {query.record_id for query in queries} - {record.id for record in benchmark.records}
    if missing:
        raise UserError(f"{folder} asked about {len(missing)} records that data {spec.data!r} no longer hold")
    originals = [query for query in queries if query.record_id in val]
    if not originals:
        raise UserError(f"{folder} asked no question of val records: attack a cell of a bench that did")
    adapter = folder / "adapter" if spec.method != cell.VANILLA else None
    usable = [attack for attack in attacks if adapter is not None or "adapter" not in attack.needs]
    asked = [(attack, attacked(attack, originals, val, options)) for attack in usable]
    return Planned(folder, Subject(spec, adapter, benchmark, folder / FOLDER, options), originals, asked, limit)


def run(plan: Planned, progress: Callable[[int], None] | None = None) -> None:
    """Answer, judge and score; the results go into ``attacks/NAME/`` and ``attacks.json`` of the cell.

    ``attacks/none/`` holds the answers of the cell to the same questions without attack. ``attacks.json`` keeps what an
    earlier call has found under other attacks, if seed, number of records and judge were the same.

    Args:
        plan: Of ``planned``.
        progress: Called with the number of questions answered.

    Raises:
        UserError: If an attack's folder was made with other options, or the model cannot be attacked so.
    """
    (plan.folder / FOLDER).mkdir(exist_ok=True)
    with locks.hold(plan.folder / FOLDER):
        for attack, queries in plan.asked:
            store.claim(plan.workspace(attack.name) / "attack.json", _made_of(plan, attack))
            store.write_jsonl(plan.workspace(attack.name) / "queries.jsonl", queries)
        _copy_unattacked(plan)
        _answer(plan, progress or (lambda done: None))
        _judge_and_score(plan)


def _made_of(plan: Planned, attack: Attack) -> dict[str, Any]:
    """All that decides the answers under an attack, but for the questions."""
    spec, adapter, options = plan.subject.spec, plan.subject.adapter, plan.subject.options
    return {
        "attack": attack.name,
        "model": spec.model_fingerprint,
        "adapter": store.hash_files(sorted(adapter.glob("*.safetensors"))) if adapter else None,
        "generation": spec.generation,
        "seed": options.seed,
    } | {name: _told(getattr(options, name)) for name in attack.reads}


def _told(value: object) -> object:
    return value if value is None or isinstance(value, int) else store.stable_hash(value)


def _copy_unattacked(plan: Planned) -> None:
    """Put the cell's own answers and verdicts beside those under attack."""
    folder, ids = plan.workspace(NONE), {query.id for query in plan.originals}
    store.write_jsonl(folder / "queries.jsonl", plan.originals)
    responses = store.read_jsonl(plan.folder / "responses.jsonl", Response)
    store.write_jsonl(folder / "responses.jsonl", [one for one in responses if one.query_id in ids])
    there = store.read_jsonl(plan.folder / "verdicts.jsonl", Verdict)
    there += store.read_jsonl(folder / "verdicts.jsonl", Verdict)
    kept = {(one.judge, one.query_id, one.criterion): one for one in there if one.query_id in ids}
    store.write_jsonl(folder / "verdicts.jsonl", kept.values())


def _answer(plan: Planned, progress: Callable[[int], None]) -> None:
    """Ask whatever has no answer yet: the unlearned model first, then those that an attack makes of it."""
    from safeeraser import respond

    generation, benchmark = plan.subject.spec.generation_options(), plan.subject.benchmark
    before = 0

    def ask(vlm: VisionLanguageModel, attack: Attack, queries: list[Query]) -> None:
        nonlocal before
        images = AttackedImages(benchmark, attack, plan.originals, plan.subject.options.seed)
        path = plan.workspace(attack.name) / "responses.jsonl"
        respond.run(vlm, benchmark, queries, path, generation, lambda d, _: progress(before + d), images)
        before += len(queries)

    waiting = [(attack, queries) for attack, queries in plan.asked if not _is_answered(plan, attack, queries)]
    before = plan.size - sum(len(queries) for _, queries in waiting)
    progress(before)
    unchanged = [(attack, queries) for attack, queries in waiting if attack.recover is None]
    if unchanged:
        vlm = plan.subject.unlearned()
        for attack, queries in unchanged:
            ask(vlm, attack, queries)
        del vlm  # one model at a time
    for attack, queries in waiting:
        if attack.recover is not None:
            ask(attack.recover(replace(plan.subject, workspace=plan.workspace(attack.name))), attack, queries)


def _is_answered(plan: Planned, attack: Attack, queries: Sequence[Query]) -> bool:
    responses = store.read_jsonl(plan.workspace(attack.name) / "responses.jsonl", Response)
    return {one.query_id for one in responses}.issuperset(query.id for query in queries)


def _judge_and_score(plan: Planned) -> None:
    from safeeraser import judges, metrics

    spec = plan.subject.spec
    judge = judges.create(spec.judge, plan.subject.benchmark.refusals, cell.judging_options(plan.folder))
    found: dict[str, Any] = {}
    for name, queries in [(NONE, plan.originals), *((attack.name, queries) for attack, queries in plan.asked)]:
        folder = plan.workspace(name)
        verdicts = judges.run(judge, queries, folder / "responses.jsonl", folder / "verdicts.jsonl", announce=say)
        scores = metrics.score(queries, store.read_jsonl(folder / "responses.jsonl", Response), verdicts)
        found[name] = [score.model_dump() for score in scores if score.metric in METRICS]
    made = {"judge": judge.id, "seed": plan.subject.options.seed, "limit": plan.limit}
    path = plan.folder / SCORES
    there = store.read_object(path, Attacked).model_dump() if path.exists() else {}
    same = all(key in there and there[key] == value for key, value in made.items())
    store.write_json(path, made | {"attacks": (there["attacks"] if same else {}) | found})
