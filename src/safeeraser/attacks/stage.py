"""Attack a cell: its val questions under every attack, answered, judged and scored; resumes by question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safeeraser.attacks.attack import NONE, Attack, Subject
from safeeraser.attacks.questions import AttackedImages, attacked
from safeeraser.bench import runs
from safeeraser.core import files, locks
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import say
from safeeraser.records import Frozen, Query, Response, Score, Verdict

if TYPE_CHECKING:
    from safeeraser.models import VisionLanguageModel

FOLDER = "attacks"
"""Of a cell: a folder for each attack."""
SCORES = "attacks.json"
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
        safeeraser.core.errors.UserError: --translations nowhere.jsonl: no such file
    """
    if not path.is_file():
        raise UserError(f"--translations {path}: no such file")
    translations = {line.question: line.translation for line in files.read_jsonl(path, Translation)}
    if not translations:
        raise UserError(f'--translations {path} holds none: a line is {{"question": ..., "translation": ...}}')
    return translations


@dataclass(frozen=True)
class AttackedCell:
    """A cell, and what is asked of it under its attacks.

    Attributes:
        cell: The cell.
        subject: Its model.
        originals: Its own questions of val records.
        asked: The questions under each attack.
        limit: Records that were chosen; None: all.
        options: Of attacks, by name.
        left_out: Which attacks need more of the data than there is, as a sentence; empty where none does.
    """

    cell: runs.Cell
    subject: Subject
    originals: list[Query]
    asked: list[tuple[Attack, list[Query]]]
    limit: int | None
    options: Mapping[str, Any]
    left_out: str = ""

    @property
    def size(self) -> int:
        """Questions in all."""
        return sum(len(queries) for _, queries in self.asked)

    def folder(self, name: str) -> Path:
        """The folder of an attack."""
        return self.cell.folder / FOLDER / name

    def responses(self, name: str) -> list[Response]:
        """The answers under an attack."""
        return files.read_jsonl(self.folder(name) / "responses.jsonl", Response)


def prepare(
    cell: runs.Cell,
    attacks: Sequence[Attack],
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
) -> AttackedCell:
    """Prepare the attacks on a finished cell; nothing is loaded or written yet.

    Args:
        cell: The cell.
        attacks: What to try; those that need an adapter are left out for the vanilla model, those that need more
            forget pairs than the data have for every cell, as ``left_out`` says.
        seed: Seed of what attacks draw.
        options: Of attacks, by name; the rest are defaults.
        limit: Val records to ask about, balanced over categories and keywords; all if None.

    Raises:
        UserError: If model or data are not what the cell was made with, the cell asked nothing about val, an option is
            out of range, or an attack cannot change one of the questions.
    """
    cell.check_model()
    benchmark = cell.spec.benchmark()
    chosen = benchmark if limit is None else benchmark.limited(limit)
    val = {record.id: record for record in chosen.split("val")}
    queries = [q for q in files.read_jsonl(cell.folder / "queries.jsonl", Query) if q.set in ("generality", "safe")]
    missing = {query.record_id for query in queries} - {record.id for record in benchmark.records}
    if missing:
        raise UserError(f"{cell.folder} asked about {len(missing)} records that data {cell.spec.data!r} no longer hold")
    originals = [query for query in queries if query.record_id in val]
    if not originals:
        raise UserError(f"{cell.folder} asked no question of val records: attack a cell of a bench that did")
    usable = [attack for attack in attacks if cell.adapter is not None or attack.needs != "adapter"]
    pairs = sum(len(record.forget) for record in benchmark.split("train"))
    names = ", ".join(attack.name for attack in usable if attack.pairs > pairs)
    left_out = f"left out: {names}: data {benchmark.name!r} have {pairs} forget pairs in train" if names else ""
    usable = [attack for attack in usable if attack.pairs <= pairs]
    for attack in usable:
        attack.chosen(options or {})  # what is out of range is said before anything is asked
    asked = [(attack, attacked(attack, originals, val, seed, options)) for attack in usable]
    subject = Subject(cell.spec, cell.adapter, benchmark, cell.folder / FOLDER, seed)
    return AttackedCell(cell, subject, originals, asked, limit, options or {}, left_out)


def run(target: AttackedCell, progress: Callable[[int], None] | None = None) -> None:
    """Answer, judge and score; the results go into ``attacks/NAME/`` and ``attacks.json`` of the cell.

    ``attacks/none/`` holds the answers of the cell to the same questions without attack. ``attacks.json`` keeps what an
    earlier call has found under other attacks, if seed, number of records and judge were the same.

    Args:
        target: Of ``prepare``.
        progress: Called with the number of questions answered.

    Raises:
        UserError: If an attack's folder was made with other options, or the model cannot be attacked so.
    """
    (target.cell.folder / FOLDER).mkdir(exist_ok=True)
    with locks.hold(target.cell.folder / FOLDER):
        made_of = target.cell.model_hashes() | {"generation": target.cell.spec.generation, "seed": target.subject.seed}
        for attack, _ in target.asked:
            options = {name: _recorded(value) for name, value in attack.chosen(target.options).items()}
            files.claim(target.folder(attack.name) / "attack.json", {"attack": attack.name} | made_of | options)
        _start_again_if_other(target)
        for attack, queries in target.asked:
            files.write_jsonl(target.folder(attack.name) / "queries.jsonl", queries)
        _copy_unattacked(target)
        _answer(target, progress or (lambda done: None))
        _judge_and_score(target)


def _start_again_if_other(target: AttackedCell) -> None:
    """Remove the scores of a call with another limit or seed: what they are of is about to change in the folders."""
    path = target.cell.folder / SCORES
    if path.exists():
        there = files.read_object(path, Attacked)
        if (there.seed, there.limit) != (target.subject.seed, target.limit):
            path.unlink()


def _recorded(value: object) -> object:
    return value if value is None or isinstance(value, int) else files.stable_hash(value)


def _copy_unattacked(target: AttackedCell) -> None:
    """Put the cell's own answers and verdicts beside those under attack."""
    folder, ids = target.folder(NONE), {query.id for query in target.originals}
    files.write_jsonl(folder / "queries.jsonl", target.originals)
    responses = files.read_jsonl(target.cell.folder / "responses.jsonl", Response)
    files.write_jsonl(folder / "responses.jsonl", [one for one in responses if one.query_id in ids])
    verdicts = files.read_jsonl(target.cell.folder / "verdicts.jsonl", Verdict)
    verdicts += files.read_jsonl(folder / "verdicts.jsonl", Verdict)
    kept = {(one.judge, one.query_id, one.criterion): one for one in verdicts if one.query_id in ids}
    files.write_jsonl(folder / "verdicts.jsonl", kept.values())


def _answer(target: AttackedCell, progress: Callable[[int], None]) -> None:
    """Ask whatever has no answer yet: the unlearned model first, then those that an attack makes of it."""
    from safeeraser.respond import local

    subject, generation = target.subject, target.cell.spec.generation_options()
    waiting = []
    for attack, queries in target.asked:
        answered = {response.query_id for response in target.responses(attack.name)}
        if not answered.issuperset(query.id for query in queries):
            waiting.append((attack, queries))
    before = target.size - sum(len(queries) for _, queries in waiting)
    progress(before)

    def show(done: int, _: int) -> None:
        progress(before + done)

    models: list[VisionLanguageModel] = []  # one in memory at a time
    for attack, queries in sorted(waiting, key=lambda pair: pair[0].recover is not None):
        if attack.recover is None:
            models = models or [subject.unlearned()]
        else:
            models.clear()
            attacker = replace(subject, workspace=target.folder(attack.name))
            models.append(attack.recover(attacker, **attack.arguments(target.options)))
        images = AttackedImages(subject.benchmark, attack, target.originals, subject.seed)
        path = target.folder(attack.name) / "responses.jsonl"
        local.run(models[0], subject.benchmark, queries, path, generation, show, images)
        before += len(queries)


def _judge_and_score(target: AttackedCell) -> None:
    from safeeraser import judges, metrics

    benchmark, cell = target.subject.benchmark, target.cell
    judge = judges.create(cell.spec.judge, benchmark.refusals, cell.judging_options(), benchmark.image)
    scored: dict[str, Any] = {}
    for name, queries in [(NONE, target.originals), *((attack.name, queries) for attack, queries in target.asked)]:
        folder = target.folder(name)
        verdicts = judges.run(judge, queries, folder / "responses.jsonl", folder / "verdicts.jsonl", announce=say)
        scores = metrics.score(queries, target.responses(name), verdicts)
        scored[name] = [score.model_dump() for score in scores if score.metric in METRICS]
    made = {"judge": judge.id, "seed": target.subject.seed, "limit": target.limit}
    path = cell.folder / SCORES
    there = files.read_object(path, Attacked).model_dump() if path.exists() else {}
    kept = there["attacks"] if there and made.items() <= there.items() else {}
    files.write_json(path, made | {"attacks": kept | scored})
