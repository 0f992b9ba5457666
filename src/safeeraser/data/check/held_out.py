"""The held-out part of val: the records that train does not give away, in a file that ``score`` and ``bench`` read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from safeeraser.core.errors import UserError
from safeeraser.core.files import read_json
from safeeraser.core.terminal import say
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.check.leaks import copied_records
from safeeraser.records import Frozen


class HeldOut(Frozen):
    """Ids of the val records without a leak; good for the benchmark with this ``fingerprint`` alone.

    ``through`` says what counted as a leak, ``leaked`` how many val records are therefore not in ``records``.
    """

    format: Literal["safeeraser-held-out-1"] = "safeeraser-held-out-1"
    benchmark: str
    fingerprint: str
    through: tuple[str, ...]
    leaked: int
    records: tuple[str, ...]


def read_held_out(path: Path, benchmark: Benchmark) -> frozenset[str]:
    """Read the ids of the held-out records of a benchmark.

    Args:
        path: File written by ``safeeraser data check --held-out``.
        benchmark: The whole benchmark that it was written for; limit it afterwards.

    Raises:
        UserError: If the file is missing or something else, was written for other data, or names no val record.
    """
    again = f"write it anew with: safeeraser data check {benchmark.root} --held-out {path}"
    try:
        held_out = HeldOut.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "file"
        raise UserError(f"{path}, field {field}: {first['msg']}; {again}") from None
    if held_out.fingerprint != benchmark.fingerprint:
        raise UserError(
            f"{path} was made for other data ({held_out.benchmark}, fingerprint {held_out.fingerprint}) than "
            f"{benchmark.name}, fingerprint {benchmark.fingerprint}: {again}"
        )
    strangers = set(held_out.records) - {record.id for record in benchmark.split("val")}
    if strangers:
        raise UserError(f"{path}: {min(strangers)!r} is no val record of {benchmark.name}; {again}")
    if not held_out.records:
        raise UserError(f"{path}: every val record leaks, nothing is held out: there is no held-out part to score")
    return frozenset(held_out.records)


def warn_of_copies(benchmark: Benchmark) -> None:
    """Say on standard error if val records stand in train as they are, and what to do; reads no image."""
    copied = copied_records(benchmark)
    if copied:
        say(
            f"note: {copied} of {len(benchmark.split('val'))} val records of {benchmark.name} stand in train, so that "
            "generality is flattered; to have it on the held-out part as well: "
            f"safeeraser data check {benchmark.root} --held-out held-out.json, then --held-out held-out.json here",
            file=sys.stderr,
        )
