"""The generated parts of the documents: ``make cog`` writes them, ``make check`` fails where they are stale."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from safeeraser.cli import parser
from safeeraser.config import UnlearnOptions
from safeeraser.objectives import term_options

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
CONTRACT = Path(__file__).parents[1] / "tests" / "models" / "contract.json"


def methods() -> str:
    """Every named method and the terms that it is the sum of."""
    from safeeraser.objectives import METHODS, TERMS

    kinds = {name: " and ".join(term.rows) for name, term in TERMS}
    rows = [
        (f"`{name}`", " + ".join(f"`{term}`" for term in terms), "; ".join(f"{term}: {kinds[term]}" for term in terms))
        for name, terms in METHODS
    ]
    return _table(("method", "is", "rows it reads"), rows)


def baselines() -> str:
    """Every baseline that trains nothing."""
    from safeeraser.bench.baselines import BASELINES

    rows = [
        (f"`{name}`", ", ".join(f"`--{option}`" for option in one.reads), _first(one.apply.__doc__))
        for name, one in BASELINES
    ]
    return _table(("method", "options", "what it is"), rows)


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
    """The model types whose parts cannot be found by asking."""
    from safeeraser.models import FAMILIES

    return _table(
        ("`config.model_type`", "why its parts are named"), [(f"`{name}`", row.reason) for name, row in FAMILIES]
    )


WITH_WEIGHTS = ("forward", "generate", "base", "saved", "packed", "step")
"""Levels of the contract that need weights."""


def trainable() -> str:
    """The types of the image-text-to-text mapping that work, and how far the others go."""
    table = json.loads(CONTRACT.read_text(encoding="utf-8"))
    whole = [kind for kind, row in sorted(table.items()) if _is_whole(row)]
    attached = [row for row in table.values() if row.get("LoRA") == "ok"]
    refused = sum("not supported" in row.get("forward", "") for row in attached)
    stopped = len(attached) - len(whole) - refused
    return (
        f"\nAny of these {len(whole)} types of model works: {', '.join(f'`{kind}`' for kind in whole)}.\n\n"
        "*Is my model one of them?* Its type is `model_type` in `config.json`: Qwen3-VL is `qwen3_vl`, InternVL 3.5 "
        "`internvl`, Gemma 3 `gemma3`, LLaVA-1.5 `llava`, GLM-4.6V `glm46v`. *Works* means that a model of the type "
        "with tiny random weights and its real processor passes every level of "
        "[the contract](#every-type-on-tiny-weights), from the loss to an adapter that is saved, loaded and merged. "
        f"Of the {len(table)} types that transformers lists as reading images and writing text, the parts of "
        f"{len(attached)} are found and take a LoRA. Besides those that work, {stopped} of these stop at a level that "
        f"their row names and may still work with real weights, and {refused} are encoder-decoders, which are refused."
        "\n\n"
    )


def _is_whole(row: dict[str, str]) -> bool:
    """Whether a type passes every level with weights."""
    return all(row.get(level, "").startswith("ok") for level in WITH_WEIGHTS)


def contract() -> str:
    """Every type of the image-text-to-text mapping with what was found in it, or why it cannot be trained."""
    table = json.loads(CONTRACT.read_text(encoding="utf-8"))
    parts = ("language model", "tower", "projector")
    rows = [
        (f"`{kind}`", *(f"`{row[part]}`".replace(", ", "`, `") if part in row else "" for part in parts), _verdict(row))
        for kind, row in sorted(table.items())
    ]
    counts = ", ".join(
        f"{level} {sum(row.get(level) == 'ok' for row in table.values())} of {len(table)}"
        for level in ("built", "parts", "LoRA")
    )
    return f"\n{counts}.\n" + _table(("`model_type`", *parts, "result"), rows)


def levels() -> str:
    """What the types that train pass on tiny weights, each level "ok" or the reason."""
    table = json.loads(CONTRACT.read_text(encoding="utf-8"))
    trained = {kind: row for kind, row in sorted(table.items()) if row.get("LoRA") == "ok"}
    rows = [(f"`{kind}`", *(row.get(level, "") for level in WITH_WEIGHTS)) for kind, row in trained.items()]
    counts = [sum(row.get(level, "").startswith("ok") for row in trained.values()) for level in WITH_WEIGHTS]
    whole = sum(map(_is_whole, trained.values()))
    named = ", ".join(f"{level} {count}" for level, count in zip(WITH_WEIGHTS, counts, strict=True))
    return f"\nAll levels: {whole} of {len(table)} types; {named}.\n" + _table(("`model_type`", *WITH_WEIGHTS), rows)


def _verdict(row: dict[str, str]) -> str:
    if "not supported" in row.get("forward", ""):
        return row["forward"]
    return next((row[level] for level in ("built", "parts", "LoRA") if row.get(level, "ok") != "ok"), "trains")


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
    every = [parser.load(name) for name in parser.COMMANDS]
    groups = dict.fromkeys(group for command in every for group in _groups(command.options))
    parts = [_command(command) for command in every]
    parts += [f"## {group.__name__}\n\n{_text(inspect.getdoc(group) or '')}\n\n{_options(group)}" for group in groups]
    return "\n" + "\n".join(parts)


def published() -> str:
    """Numbers that others published, an empty column for one's own beside each."""
    from safeeraser.report import published as numbers
    from safeeraser.report.table import COLUMNS

    names = [COLUMNS.get(metric, "Spec. (seven) ↑") for metric in numbers.METRICS]
    head = ["model", "method", "from", *(part for name in names for part in (name, "yours"))]
    entries = numbers.entries("paper")
    rows = [
        [
            e.row.model,
            e.row.method,
            e.run,
            *(part for s in e.row.scores.values() for part in (f"{100 * s.value:.1f}", "")),
        ]
        for e in entries
    ]
    sources = dict.fromkeys(f"{entry.run}: {entry.source}." for entry in entries)
    return _table(head, rows) + "\n\n".join(sources) + "\n\n"


def figures(script: str, table: str | None = None, without: Sequence[str] = ()) -> str:
    """A table that a script in ``benchmarks/`` has measured; without a name, its only one; ``without`` some columns.

    Rows that could not be measured say why.
    """
    result = json.loads((RESULTS / f"{script}.json").read_text(encoding="utf-8"))
    name = table or script
    rows: dict[str, dict[str, float]] = result["tables"][name]
    reasons = {
        row.removeprefix(f"{name}: "): reason
        for row, reason in result.get("not measured", {}).items()
        if row.startswith(f"{name}: ")
    }
    columns = [c for c in dict.fromkeys(column for row in rows.values() for column in row) if c not in without]
    cells = [
        [
            what,
            *(_value(rows.get(what, {}).get(column)) for column in columns),
            *([reasons.get(what, "")] if reasons else []),
        ]
        for what in dict.fromkeys([*rows, *reasons])
    ]
    return _table(["", *columns, *([""] if reasons else [])], cells) + _measured(result)


def _value(value: float | None) -> str:
    if value is None:
        return ""
    if value and abs(value) < 0.001:
        return f"{value:.0e}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _measured(result: dict[str, Any]) -> str:
    """How the figures came about: what else the machine did, and with which libraries."""
    made = ", ".join(f"{name} {version}" for name, version in result["environment"].items() if name != "cpus")
    minutes, load, cores = result["minutes"], result["load"], result["environment"]["cpus"]
    if "card" not in result:
        return f"(The script took {minutes:g} min; load average before it {load:g} on {cores} cores; {made}.)\n\n"
    card = f"{result['card']['card']}, CUDA {result['card']['CUDA']}"
    return f"({card}; the script took {minutes:g} min; load average after it {load:g} on {cores} cores; {made}.)\n\n"


def _command(command: parser.Command) -> str:
    text, _, example = (inspect.getdoc(command.options) or "").partition("Example:\n")
    usage = " ".join(["safeeraser", command.name, *(_argument(command, field) for field in command.positionals)])
    parts = [
        f"## {command.name}",
        _text(text),
        f"```\n{inspect.cleandoc(example)}\n```" if example else "",
        f"`{usage} ...`",
    ]
    return "\n\n".join(part for part in parts if part) + "\n\n" + _options(command.options, command.positionals)


def _argument(command: parser.Command, field: str) -> str:
    """A positional option as a usage line has it: in brackets where it may be left out."""
    optional = command.options.__dataclass_fields__[field].default is not MISSING
    return f"[{field.upper()}]" if optional else field.upper()


def _options(kind: type[Any], positionals: Sequence[str] = ()) -> str:
    hints = get_type_hints(kind)
    rows = []
    for field in fields(kind):
        nested = _nested(hints[field.name])
        if nested is not None:
            name = nested.__name__
            what = f"[{name}](#{name.lower()}), each as `--{field.name}.NAME`"
            rows.append((f"`--{field.name}`", "", _text(parser.field_help(kind, field.name)) + " " + what))
            continue
        flag = field.name.upper() if field.name in positionals else f"--{field.name}"
        needed = field.default is MISSING and field.default_factory is MISSING
        default = "needed" if needed else _default(field.default)
        rows.append((f"`{flag}`", default, _text(parser.field_help(kind, field.name))))
    added = term_options() if kind is UnlearnOptions else parser.added_options(kind)[1]
    rows += [
        (f"`--{path}`", _default(added[path].default), _text(added[path].help)) for path in added if "." not in path
    ]
    return _table(("option", "default", "what it is"), rows).lstrip("\n")


def _default(value: object) -> str:
    return "" if value in (None, "") or value is MISSING else f"`{value}`"


def _groups(kind: type[Any]) -> Iterator[type[Any]]:
    for hint in get_type_hints(kind).values():
        if nested := _nested(hint):
            yield nested
            yield from _groups(nested)


def _nested(hint: Any) -> type[Any] | None:
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def _first(docstring: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    return _text((docstring or "").split("\n\n")[0]).removesuffix(".")


def _text(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n"
