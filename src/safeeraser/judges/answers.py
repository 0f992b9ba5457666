"""Which answers a file of verdicts is about, so that those on one model's answers never count for another's.

A verdict names its query alone, and every model is asked the same queries. Cells, attacks and safety sets have a folder
each; where a person names the files of responses and verdicts, the hash of each answer stands beside the verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.records import Response


def claim(verdicts: Path, responses: Iterable[Response]) -> None:
    """Record which answers a file of verdicts is about, after checking that it is about no others.

    Raises:
        UserError: As ``check``.
    """
    known = check(verdicts, responses)
    files.write_json(_beside(verdicts), known)


def check(verdicts: Path, responses: Iterable[Response]) -> dict[str, str]:
    """Check that a file of verdicts is about these answers, as far as that is recorded.

    Answers may be added, and take the place of errors.

    Returns:
        The hash of each answer, by query: those recorded and these.

    Raises:
        UserError: If an answer differs from the one that was judged.
    """
    recorded: dict[str, str] = {}
    if verdicts.exists() and _beside(verdicts).exists():
        recorded = files.read_json(_beside(verdicts))
    latest = {response.query_id: response for response in responses}
    now = {
        id: files.stable_hash(response.answer, response.finished)
        for id, response in latest.items()
        if response.error is None
    }
    shared = recorded.keys() & now.keys()
    if other := sorted(id for id in shared if recorded[id] != now[id]):
        raise UserError(
            f"{verdicts} holds verdicts on other answers than these: {len(other):,} of {len(shared):,} differ (first: "
            f"query {other[0]}); choose another file for the verdicts on these"
        )
    return recorded | now


def _beside(verdicts: Path) -> Path:
    return verdicts.with_suffix(".answers.json")
