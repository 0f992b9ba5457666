"""The files of several processes that answer together: each appends to a part of its own, and the parts become one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safeeraser.errors import UserError
from safeeraser.processes import Team
from safeeraser.records import Response
from safeeraser.store import append_jsonl, iter_jsonl, read_jsonl, write_jsonl

__all__ = ["Known", "Output", "check_whole", "is_news", "known_in", "merge", "part", "parts"]

Known = Mapping[str, str | None]
"""Of each query that has a response, its error; the answers themselves stay in the file."""


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
    found = {int(match[1]): other for other in path.parent.glob("*") if (match := name.fullmatch(other.name))}
    return [found[index] for index in sorted(found)]


def merge(path: Path, order: Sequence[str]) -> None:
    """Take what the parts hold into ``path``, in the order in which one process would have written, and remove them.

    The file is replaced as a whole; a kill before the parts are gone costs nothing, as what it holds is not taken
    twice. Lines of questions that are not in ``order`` stay, before the others.

    Args:
        path: ``responses.jsonl``.
        order: Ids of the queries.

    Raises:
        UserError: If a line of a file is no response.
    """
    left = parts(path)
    if not left:
        return
    lines = read_jsonl(path, Response)
    known = {response.query_id: response.error for response in lines}
    for one in left:
        for response in iter_jsonl(one, Response):
            if is_news(response, known):
                known[response.query_id] = response.error
                lines.append(response)
    place = {id: number for number, id in enumerate(order)}
    lines.sort(key=lambda response: place.get(response.query_id, -1))
    write_jsonl(path, lines)
    for one in left:
        one.unlink()


def check_whole(path: Path, order: Sequence[str]) -> None:
    """Check that every query has a response.

    Raises:
        UserError: If one has none.

    Example:
        >>> check_whole(Path("responses.jsonl"), [])
    """
    missing = len(set(order) - known_in(path).keys())
    if missing:
        raise UserError(
            f"{path}: {missing} of {len(order)} answers are missing, which other processes gave: they did not see this "
            "folder; give --out in one that all machines share"
        )


def known_in(path: Path) -> dict[str, str | None]:
    """What a file of responses has, for ``is_news``.

    Example:
        >>> known_in(Path("no file"))
        {}
    """
    return {response.query_id: response.error for response in iter_jsonl(path, Response)}


def is_news(response: Response, known: Known) -> bool:
    """Whether a response says more than the one that is there: an answer counts once, an error until it is mended.

    Example:
        >>> answer = Response(query_id="q", answer="A cat.", finished=True)
        >>> is_news(answer, {}), is_news(answer, {"q": None}), is_news(answer, {"q": "no image"})
        (True, False, True)
    """
    old = known.get(response.query_id)
    return response.query_id not in known or (old is not None and old != response.error)


class Output:
    """Where one process writes: the file itself if it is alone, else its part; counts what all of them write.

    Args:
        path: ``responses.jsonl``; no part is left beside it.
        team: The processes.
    """

    def __init__(self, path: Path, team: Team) -> None:
        """Remember the launcher; nothing is written yet."""
        several = range(team.num_processes) if team.num_processes > 1 else ()
        self._path = part(path, team.process_index) if several else path
        self._others = {part(path, index): 0 for index in several if index != team.process_index}
        self._launcher = os.getppid() if several else None
        self._count = 0

    def append(self, responses: Sequence[Response]) -> None:
        """Append and make durable.

        Raises:
            SystemExit: As ``check_launcher``.
        """
        self.check_launcher()
        append_jsonl(self._path, responses)
        self._count += len(responses)

    def check_launcher(self) -> None:
        """See whether what started these processes is still there.

        Raises:
            SystemExit: If it is not: its successor may be at work already.
        """
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
