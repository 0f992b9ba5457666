"""Files of several processes that share the batches: each appends to a part of its own, and the parts become one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safeeraser.core.errors import UserError
from safeeraser.core.files import append_jsonl, read_jsonl, write_jsonl
from safeeraser.models.processes import Team
from safeeraser.records import Response


def part(path: Path, index: int) -> Path:
    """The file that process ``index`` appends to, beside the one that all become.

    Example:
        >>> part(Path("runs/responses.jsonl"), 1).name
        'responses.part-1.jsonl'
    """
    return path.with_name(f"{path.stem}.part-{index}{path.suffix}")


def parts(path: Path) -> list[Path]:
    """The parts that lie beside ``path``, whoever left them, in order."""
    name = re.compile(rf"{re.escape(path.stem)}\.part-(\d+){re.escape(path.suffix)}")
    by_index = {int(match[1]): other for other in path.parent.glob("*") if (match := name.fullmatch(other.name))}
    return [file for _, file in sorted(by_index.items())]


def is_news(known: Mapping[str, str | None], response: Response) -> bool:
    """Whether a response says more than what is there: an answer counts once, an error until it is mended.

    Example:
        >>> answer = Response(query_id="q", answer="A cat.", finished=True)
        >>> [is_news(known, answer) for known in ({}, {"q": None}, {"q": "no image"})]
        [True, False, True]
    """
    id = response.query_id
    return id not in known or known[id] not in (None, response.error)


def merge(path: Path, order: Mapping[str, int]) -> None:
    """Move the responses of the parts into ``path``, in the order in which one process would have written them.

    The file is replaced as a whole; a kill before the parts are gone costs nothing, as what it holds is not taken
    twice. Lines of questions that are not in ``order`` stay, before the others.
    """
    left = parts(path)
    if not left:
        return
    responses = read_jsonl(path, Response)
    known = {response.query_id: response.error for response in responses}
    for file in left:
        for response in read_jsonl(file, Response):
            if is_news(known, response):
                known[response.query_id] = response.error
                responses.append(response)
    responses.sort(key=lambda response: order.get(response.query_id, -1))
    write_jsonl(path, responses)
    for file in left:
        file.unlink()


def check_whole(path: Path, order: Mapping[str, int]) -> None:
    """Raise UserError if a query has no response."""
    missing = len(order.keys() - {response.query_id for response in read_jsonl(path, Response)})
    if missing:
        raise UserError(
            f"{path}: {missing} of {len(order)} answers are missing, which other processes gave: they did not see this "
            "folder; give --out in one that all machines share"
        )


class Output:
    """Output of one process: the file itself if it is alone, else its part; counts what all processes write."""

    def __init__(self, path: Path, team: Team) -> None:
        several = range(team.num_processes) if team.num_processes > 1 else ()
        self._path = part(path, team.process_index) if several else path
        self._others = {part(path, index): 0 for index in several if index != team.process_index}
        self._launcher = os.getppid() if several else None
        self._count = 0

    def append(self, responses: Sequence[Response]) -> None:
        """Append and make durable."""
        self.check_launcher()
        append_jsonl(self._path, responses)
        self._count += len(responses)

    def check_launcher(self) -> None:
        """End this process if its launcher has ended: the successor may be at work already."""
        if self._launcher not in (None, os.getppid()):
            raise SystemExit("the process that started this one is gone; the same command goes on where it stopped")

    def count(self) -> int:
        """Responses that all processes have written until now; no byte is read twice."""
        for path, end in self._others.items():
            if path.exists():
                with open(path, "rb") as file:
                    file.seek(end)
                    new = file.read()
                self._others[path] = end + len(new)
                self._count += new.count(b"\n")
        return self._count
