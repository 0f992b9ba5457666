"""The generated parts of README and docs: ``make cog`` writes them, ``make check`` fails where they are stale."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from safeeraser import cli

STATED = Path(__file__).parents[1] / "benchmarks" / "stated.json"


def overview() -> str:
    """What ``safeeraser --help`` prints, as a code block."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        cli.main(["--help"])
    return f"\n```\n$ safeeraser --help\n{printed.getvalue()}```\n\n"


def methods() -> str:
    """Every named method and the terms that it is the sum of."""
    from safeeraser.objectives import METHODS, TERMS

    kinds = {name: " and ".join(term.rows) for name, term in TERMS}
    rows = [
        (f"`{name}`", " + ".join(f"`{term}`" for term in terms), "; ".join(f"{term}: {kinds[term]}" for term in terms))
        for name, terms in METHODS.items()
    ]
    return _table(("method", "is", "rows it reads"), rows)


def terms() -> str:
    """Every objective term."""
    from safeeraser.objectives import TERMS

    rows = [
        (f"`{name}`", ", ".join(term.rows), ", ".join(sorted(term.needs)), _first(term.function.__doc__))
        for name, term in TERMS
    ]
    return _table(("term", "rows", "also needs", "what it is"), rows)


def metrics() -> str:
    """Every metric: those of one definition in one row."""
    from safeeraser.metrics import METRICS

    together: dict[str, list[Any]] = {}
    for _, metric in METRICS:
        together.setdefault(metric.description, []).append(metric)
    rows = [
        (
            ", ".join(f"`{metric.name}`" for metric in same),
            ", ".join(dict.fromkeys(metric.on for metric in same)),
            "Wilson" if same[0].interval == "wilson" else "bootstrap over images",
            _first(description),
        )
        for description, same in together.items()
    ]
    return _table(("metric", "questions", "95 % interval", "what it is"), rows)


def families() -> str:
    """Every model family."""
    from safeeraser.models import FAMILIES

    rows = [
        (f"`{name}`", *(f"`{part}`" for part in (family.language_model, family.projector, family.tower)))
        for name, family in FAMILIES
    ]
    head = ("`config.model_type`", "language model (LoRA)", "projector (trained whole)", "tower (frozen)")
    return _table(head, rows)


def names() -> str:
    """The judges, built-in benchmarks and models."""
    from safeeraser.data import BENCHMARKS
    from safeeraser.judges import JUDGES
    from safeeraser.models import BUILT_IN

    listed = {"judges": JUDGES.names(), "benchmarks": BENCHMARKS.names(), "models": sorted(BUILT_IN)}
    return (
        "\n" + "\n".join(f"- {what}: {', '.join(f'`{n}`' for n in found)}" for what, found in listed.items()) + "\n\n"
    )


def commands() -> str:
    """Every command with its options; groups of options that several commands share stand once, at the end."""
    parts = [_command(name, command) for name, command in cli.COMMANDS.items()]
    groups: dict[str, type[Any]] = {}
    for command in cli.COMMANDS.values():
        groups |= dict(_groups(command.options))
    parts += [
        f"## {_anchor(kind)}\n\n{_text(inspect.getdoc(kind) or '')}\n\n{_options(kind)}" for kind in groups.values()
    ]
    return "\n" + "\n".join(parts)


def figures(script: str, *starting: str) -> str:
    """The stated figures of a script in ``benchmarks/`` whose ids start so, or all: what is measured, by column."""
    stated = json.loads(STATED.read_text(encoding="utf-8"))[script]
    chosen = [one for name, one in stated["figures"].items() if name.startswith(starting or "")]
    columns = list(dict.fromkeys(one["column"] for one in chosen))
    rows: dict[str, dict[str, Any]] = {}
    for one in chosen:
        rows.setdefault(one["what"], {})[one["column"]] = one
    units = {what: next(iter(row.values()))["unit"] for what, row in rows.items()}
    cells = [[what, *(_value(row.get(column)) for column in columns), units[what]] for what, row in rows.items()]
    if len(set(units.values())) > 1:
        return _table(["", *columns, "unit"], cells) + _measured(stated)
    unit = next(iter(units.values()))
    head = [f"{column}, {unit}" if column in ("by the clock", "of the processor") else column for column in columns]
    return _table(["", *head], [row[:-1] for row in cells]) + _measured(stated)


def _value(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    value = figure["value"]
    if value is None:
        return "–"
    if value and abs(value) < 0.001:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _measured(stated: dict[str, Any]) -> str:
    """How the figures came about: what else the machine did, and with which libraries."""
    if stated["load"] is None:
        return "(Measured before `make bench` could repeat it, beside other work.)\n\n"
    made = ", ".join(f"{name} {version}" for name, version in stated["environment"].items() if name != "cpus")
    minutes, load, cores = stated["minutes"], stated["load"], stated["environment"]["cpus"]
    return f"(The script took {minutes:g} min; load average before it {load:g} on {cores} cores; {made}.)\n\n"


def _command(name: str, command: cli.Command) -> str:
    text, _, example = (inspect.getdoc(command.options) or "").partition("Example:\n")
    usage = " ".join(["safeeraser", name, *(_argument(command, field) for field in command.positionals)])
    parts = [f"## {name}", _text(text), f"```\n{inspect.cleandoc(example)}\n```" if example else "", f"`{usage} ...`"]
    return "\n\n".join(part for part in parts if part) + "\n\n" + _options(command.options, command.positionals)


def _argument(command: cli.Command, field: str) -> str:
    """A positional option as a usage line has it: in brackets where it may be left out."""
    optional = command.options.__dataclass_fields__[field].default is not MISSING
    return f"[{field.upper()}]" if optional else field.upper()


def _options(kind: type[Any], positionals: Sequence[str] = ()) -> str:
    hints = get_type_hints(kind)
    rows = []
    for field in fields(kind):
        nested = _nested(hints[field.name])
        if nested is not None:
            what = f"[{_anchor(nested)}](#{_anchor(nested).lower()}), each as `--{field.name}.NAME`"
            rows.append((f"`--{field.name}`", "", _text(cli._field_help(kind, field.name)) + " " + what))
            continue
        flag = field.name.upper() if field.name in positionals else f"--{field.name}"
        default = "needed" if field.default is MISSING else "" if field.default is None else f"`{field.default}`"
        rows.append((f"`{flag}`", default, _text(cli._field_help(kind, field.name))))
    return _table(("option", "default", "what it is"), rows).lstrip("\n")


def _groups(kind: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    for hint in get_type_hints(kind).values():
        nested = _nested(hint)
        if nested is not None:
            yield nested.__name__, nested
            yield from _groups(nested)


def _nested(hint: Any) -> type[Any] | None:
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def _anchor(kind: type[Any]) -> str:
    return kind.__name__


def _first(docstring: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    return _text((docstring or "").split("\n\n")[0]).removesuffix(".")


def _text(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n"
