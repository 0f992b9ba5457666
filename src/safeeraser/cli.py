"""The command line: one subcommand per stage; flags, help and YAML keys come from the dataclasses in ``config``."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser import config
from safeeraser.errors import UserError


@dataclass(frozen=True)
class Command:
    """A subcommand: its options and the function ("module:function") that takes them and returns an exit status."""

    options: type[Any]
    function: str
    positional: str | None = None


COMMANDS: dict[str, Command] = {
    "bench": Command(config.BenchConfig, "safeeraser.bench:run"),
    "unlearn": Command(config.UnlearnConfig, "safeeraser.cli:unlearn"),
    "respond": Command(config.RespondConfig, "safeeraser.cli:respond"),
    "judge": Command(config.JudgeConfig, "safeeraser.cli:judge"),
    "score": Command(config.ScoreConfig, "safeeraser.cli:score"),
    "pretrain": Command(config.PretrainConfig, "safeeraser.cli:pretrain"),
    "data build": Command(config.DataBuildConfig, "safeeraser.cli:data_build", positional="name"),
    "data show": Command(config.DataShowConfig, "safeeraser.cli:data_show", positional="folder"),
}

WARNING = "Content warning: with real models and real data, unsafe images and answers are part of what is measured."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status: 0 done, 1 something failed on the way, 2 unusable input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = _split(arguments)
    if name is None:
        return _overview(arguments)
    command = COMMANDS[name]
    try:
        options = _parse(name, command, rest)
        module, function = command.function.split(":")
        return int(getattr(importlib.import_module(module), function)(options))
    except UserError as error:
        print(f"safeeraser {name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _split(arguments: list[str]) -> tuple[str | None, list[str]]:
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if len(arguments) >= length and name in COMMANDS:
            return name, arguments[length:]
    return None, arguments


def _overview(arguments: list[str]) -> int:
    if arguments and arguments[0] == "--version":
        from safeeraser import __version__

        print(f"safeeraser {__version__}")
        return 0
    lines = ["usage: safeeraser COMMAND [OPTIONS]", ""]
    lines += [
        "Safety unlearning for multimodal LLMs: unlearn, answer, judge, score, compare.",
        "",
        "commands:",
    ]
    for name, command in COMMANDS.items():
        lines.append(f"  {name:<12} {_summary(command)}")
    lines += ["", "Start here (no GPU, no network): safeeraser bench --quick"]
    lines += ["Each command explains itself: safeeraser COMMAND --help", "", WARNING]
    asked = not arguments or arguments[0] in ("-h", "--help")
    if asked:
        print("\n".join(lines))
        return 0
    import difflib

    given = " ".join(arguments[:2]) if arguments[0] == "data" else arguments[0]
    near = difflib.get_close_matches(given, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    print(f"safeeraser: unknown command {given!r}: {hint}available: {', '.join(COMMANDS)}", file=sys.stderr)
    return 2


def _summary(command: Command) -> str:
    return (inspect.getdoc(command.options) or "").split("\n")[0]


def _parse(name: str, command: Command, arguments: list[str]) -> Any:
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    text, _, example = (inspect.getdoc(command.options) or "").partition("Example:\n")
    parser = ArgumentParser(
        prog=f"safeeraser {name}",
        description=text.strip() + "\n\n--GROUP.NAME may be written --NAME where no other option has that name.",
        epilog="example:\n" + example if example else None,
        formatter_class=_help_formatter(),
        exit_on_error=True,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    parser.add_class_arguments(
        command.options, as_group=False, skip={command.positional} if command.positional else None
    )
    if command.positional:
        parser.add_argument(command.positional, help=_field_help(command.options, command.positional))
    parser.set_defaults(_recipe(command, arguments))
    parsed = parser.parse_args(_with_switches(command, _with_groups(command.options, arguments)))
    values = parser.instantiate(parsed).as_dict()
    values.pop("config", None)
    return command.options(**values)


def _with_groups(options: type[Any], arguments: list[str]) -> list[str]:
    """Let ``--protocol`` mean ``--generation.protocol``: the name of a group may be left out where it is not needed."""
    short: dict[str, list[str]] = {}
    for path in _paths(options):
        short.setdefault(path.rpartition(".")[2], []).append(path)
    full = {f"--{name}": f"--{paths[0]}" for name, paths in short.items() if len(paths) == 1}
    split = [argument.partition("=") for argument in arguments]
    return [full.get(flag, flag) + equals + value for flag, equals, value in split]


def _paths(options: type[Any], prefix: str = "") -> list[str]:
    """Dotted paths of all options of a dataclass, those of nested ones included."""
    from dataclasses import is_dataclass
    from typing import get_type_hints

    paths = []
    for name, kind in get_type_hints(options).items():
        nested = isinstance(kind, type) and is_dataclass(kind)
        paths += _paths(kind, f"{prefix}{name}.") if nested else [prefix + name]
    return paths


def _with_switches(command: Command, arguments: list[str]) -> list[str]:
    """Let ``--quick`` alone mean ``--quick true``."""
    switches = {f"--{name}" for name, f in command.options.__dataclass_fields__.items() if f.type == "bool"}
    following = [*arguments[1:], ""]
    return [
        f"{argument}=true" if argument in switches and after not in ("true", "false") else argument
        for argument, after in zip(arguments, following, strict=False)
    ]


def _help_formatter() -> type[Any]:
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import DefaultHelpFormatter

    return type("HelpFormatter", (DefaultHelpFormatter, RawDescriptionHelpFormatter), {})


def _field_help(options: type[Any], field: str) -> str:
    from docstring_parser.attrdoc import add_attribute_docstrings
    from docstring_parser.google import parse

    docstring = parse(inspect.getdoc(options) or "")
    add_attribute_docstrings(options, docstring)
    return next((p.description or "" for p in docstring.params if p.arg_name == field), "")


def _recipe(command: Command, arguments: list[str]) -> dict[str, Any]:
    """Defaults that ship for the chosen model, for the option groups that the command has."""
    fields = command.options.__dataclass_fields__
    if "model" not in fields:
        return {}
    model = fields["model"].default
    for position, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        value = value or (arguments[position + 1] if position + 1 < len(arguments) else "")
        if flag == "--config" and Path(value).is_file():
            import yaml

            loaded = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
            model = loaded.get("model", model) if isinstance(loaded, dict) else model
        elif flag == "--model":
            model = value
    return {
        f"{group}.{key}": value
        for group, values in config.recipe_defaults(model).items()
        if group in fields
        for key, value in _flat(values)
    }


def _flat(values: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        pairs += [(f"{key}.{k}", v) for k, v in _flat(value)] if isinstance(value, dict) else [(key, value)]
    return pairs


def unlearn(options: config.UnlearnConfig) -> int:
    """``safeeraser unlearn``."""
    from safeeraser import data, objectives
    from safeeraser import unlearn as stage

    method = objectives.parse_method(options.method, options.training.preset)
    benchmark = data.load(options.data, options.limit)
    adapter = stage.run(options.model, benchmark, method, options.training, Path(options.out))
    print(f"adapter: {adapter}\nnext: safeeraser respond --adapter {adapter} --out {options.out}/responses.jsonl")
    return 0


def respond(options: config.RespondConfig) -> int:
    """``safeeraser respond``."""
    from safeeraser import data, models, store
    from safeeraser import respond as stage
    from safeeraser.progress import bar

    benchmark = data.load(options.data, options.limit)
    queries = data.queries(benchmark, options.generation.protocol)
    adapter = Path(options.adapter) if options.adapter else None
    vlm = models.merge(models.load(options.model, adapter))
    weights = sorted(adapter.glob("*.safetensors")) if adapter else []
    source = {"model": vlm.fingerprint, "adapter": store.hash_files(weights) if weights else None}
    generation = {"protocol": options.generation.protocol, "max_new_tokens": options.generation.max_new_tokens}
    store.claim(Path(options.out).with_suffix(".source.json"), source | generation)
    with bar("respond", len(queries)) as progress:
        stage.run(vlm, benchmark, queries, Path(options.out), options.generation, progress)
    print(f"responses: {options.out}\nnext: safeeraser judge --responses {options.out} --out verdicts.jsonl")
    return 0


def judge(options: config.JudgeConfig) -> int:
    """``safeeraser judge``."""
    from safeeraser import data, judges
    from safeeraser.progress import bar

    benchmark = data.load(options.data)
    queries = data.queries(benchmark, options.protocol)
    with bar("judge", None) as progress:
        judges.run(
            judges.create(options.judge, benchmark.refusals),
            queries,
            Path(options.responses),
            Path(options.out),
            progress,
        )
    print(f"verdicts: {options.out}\nnext: safeeraser score --responses {options.responses} --verdicts {options.out}")
    return 0


def score(options: config.ScoreConfig) -> int:
    """``safeeraser score``."""
    from safeeraser import data, metrics, store
    from safeeraser.records import Response, Verdict
    from safeeraser.report.table import print_scores

    responses = store.read_jsonl(Path(options.responses), Response)
    answered = {response.query_id for response in responses}
    queries = [q for q in data.queries(data.load(options.data), options.protocol) if q.id in answered]
    scores = metrics.score(queries, responses, store.read_jsonl(Path(options.verdicts), Verdict))
    store.write_json(Path(options.out), {"scores": [s.model_dump() for s in scores]})
    print_scores(scores)
    return 0


def pretrain(options: config.PretrainConfig) -> int:
    """``safeeraser pretrain``."""
    import safeeraser.models.mini as mini

    mini.pretrain(Path(options.out), seed=options.seed)
    print(f"checkpoint: {options.out}\nnext: safeeraser bench --model {options.out}")
    return 0


def data_build(options: config.DataBuildConfig) -> int:
    """``safeeraser data build``."""
    from safeeraser.data import BENCHMARKS

    BENCHMARKS.get(options.name)
    builder = importlib.import_module(f"safeeraser.data.{options.name}.build")
    builder.build(Path(options.out), options.records, options.seed, options.workers)
    print(f"benchmark: {options.out}\nnext: safeeraser data show {options.out}")
    return 0


def data_show(options: config.DataShowConfig) -> int:
    """``safeeraser data show``."""
    from safeeraser import data
    from safeeraser.data import sheet

    sheet.show(data.load(options.folder).root, Path(options.out), reveal=options.reveal)
    print(f"contact sheet: {options.out}")
    return 0
