"""What is wrong with a folder of data: every problem with file, record and field, those of one kind together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safeeraser.core.errors import UserError
from safeeraser.core.terminal import by_kind


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and where.

    Args:
        file: Name of the file in the dataset folder.
        record: Position in the file, from 1; None if the file as a whole cannot be used.
        field: Field of the record, such as ``unsafe_pairs[2].question``; "" if the record as a whole is meant.
        message: What was found, what is allowed.

    Example:
        >>> str(Problem("all_val.json", 3, "unsafe_pairs[0].question", "is empty; it must be a text"))
        'all_val.json, record 3, field unsafe_pairs[0].question: is empty; it must be a text'
    """

    file: str
    record: int | None
    field: str
    message: str

    def __str__(self) -> str:
        """One line that any terminal can print."""
        record = "" if self.record is None else f", record {self.record}"
        field = f", field {self.field}" if self.field else ""
        line = " ".join(f"{self.file}{record}{field}: {self.message}".split())
        return line.encode("utf-8", "backslashreplace").decode("utf-8")


def refusal(folder: Path, problems: Sequence[Problem]) -> UserError:
    """The one error that reports the problems of a folder, many of one kind by their number, to be raised.

    Example:
        >>> print(refusal(Path("mine"), [Problem("all_val.json", 3, "image_path", "there is no file img/1.jpg")]))
        mine: 1 problem
          all_val.json, record 3, field image_path: there is no file img/1.jpg
        mend it, or leave out what is bad with --on-bad skip; to look inside the images, too: safeeraser data check mine
    """
    lines = [f"{folder}: {len(problems):,} problem{'s' if len(problems) > 1 else ''}"]
    lines += by_kind(problems)
    check = f"to look inside the images, too: safeeraser data check {folder}"
    them = "them" if len(problems) > 1 else "it"
    if any(problem.record is None for problem in problems):
        files = ", ".join(dict.fromkeys(problem.file for problem in problems if problem.record is None))
        lines.append(f"mend {them} (--on-bad skip leaves out records, but not a whole file: {files}); {check}")
    else:
        lines.append(f"mend {them}, or leave out what is bad with --on-bad skip; {check}")
    return UserError("\n".join(lines))


def summary(problems: Sequence[Problem]) -> str:
    """Fields and how many problems each has, the most frequent first.

    Example:
        >>> summary([Problem("all_val.json", n, f"unsafe_pairs[{n}].question", "is empty") for n in (1, 2)])
        'unsafe_pairs: 2'
    """
    fields = Counter(problem.field.partition("[")[0].partition(".")[0] or "record" for problem in problems)
    return ", ".join(f"{field}: {count:,}" for field, count in fields.most_common())
