"""The files of several processes that answer together: each appends to a part of its own, and the parts become one."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

from safeeraser.errors import UserError
from safeeraser.lookup import Lookup
from safeeraser.processes import Team
from safeeraser.records import Response
from safeeraser.spool import Chosen, Spool
from safeeraser.store import append_jsonl, iter_jsonl, write_jsonl

__all__ = ["Known", "Output", "check_whole", "is_news", "merge", "part", "parts"]


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


class Known:
    """Which queries have a response, and those with an error theirs; the answers themselves stay in the files.

    Args:
        order: The number of each query, by id.
        responses: What there is.

    Example:
        >>> known = Known(Lookup(int, [("q", 0)]), [Response(query_id="q", answer="A cat.", finished=True)])
        >>> "q" in known, known.error("q"), known.missing
        (True, None, 0)
    """

    def __init__(self, order: Lookup[int], responses: Iterable[Response] = ()) -> None:
        """Go through the responses; the last one to a query counts."""
        self._order, self._there = order, bytearray()
        self._others: set[str] = set()  # asked of an earlier call
        self._errors: dict[str, str] = {}
        for response in responses:
            self.add(response)

    def add(self, response: Response) -> None:
        """Take one more response for known."""
        number = self._order.get(response.query_id)
        if number is None:
            self._others.add(response.query_id)
        else:
            self._there.extend(bytes(max(0, number + 1 - len(self._there))))
            self._there[number] = True
        self._errors.pop(response.query_id, None)
        if response.error is not None:
            self._errors[response.query_id] = response.error

    def __contains__(self, id: str) -> bool:
        """Whether a query has a response."""
        number = self._order.get(id)
        return id in self._others if number is None else any(self._there[number : number + 1])

    def error(self, id: str) -> str | None:
        """The error of a query's response; None if it has none."""
        return self._errors.get(id)

    @property
    def missing(self) -> int:
        """Queries without a response."""
        return len(self._order) - sum(self._there)


def merge(path: Path, order: Lookup[int]) -> None:
    """Take what the parts hold into ``path``, in the order in which one process would have written, and remove them.

    The file is replaced as a whole; a kill before the parts are gone costs nothing, as what it holds is not taken
    twice. Lines of questions that are not in ``order`` stay, before the others.

    Args:
        path: ``responses.jsonl``.
        order: Number of each query, by id.

    Raises:
        UserError: If a line of a file is no response.
    """
    left = parts(path)
    if not left:
        return
    lines, known = Spool(iter_jsonl(path, Response)), Known(order)
    places = array("q")

    def take(response: Response) -> None:
        known.add(response)
        number = order.get(response.query_id)
        places.append(-1 if number is None else number)

    for response in lines:
        take(response)
    for one in left:
        for response in iter_jsonl(one, Response):
            if is_news(known, response):
                take(response)
                lines.append(response)
    write_jsonl(path, Chosen(lines, sorted(range(len(lines)), key=places.__getitem__)))
    for one in left:
        one.unlink()


def check_whole(path: Path, order: Lookup[int]) -> None:
    """Check that every query has a response.

    Raises:
        UserError: If one has none.

    Example:
        >>> check_whole(Path("responses.jsonl"), Lookup(int, []))
    """
    missing = Known(order, iter_jsonl(path, Response)).missing
    if missing:
        raise UserError(
            f"{path}: {missing} of {len(order)} answers are missing, which other processes gave: they did not see this "
            "folder; give --out in one that all machines share"
        )


def is_news(known: Known, new: Response) -> bool:
    """Whether a response says more than what is there: an answer counts once, an error until it is mended.

    Args:
        known: The responses that are there.
        new: The response.

    Example:
        >>> answer = Response(query_id="q", answer="A cat.", finished=True)
        >>> mended = answer.model_copy(update={"error": "no image"})
        >>> [is_news(Known(Lookup(int, [("q", 0)]), there), answer) for there in ([], [answer], [mended])]
        [True, False, True]
    """
    old = known.error(new.query_id)
    return new.query_id not in known or (old is not None and old != new.error)


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
