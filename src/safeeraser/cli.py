"""The command line: one subcommand per stage; flags, help and YAML keys come from the dataclasses in ``config``."""

from __future__ import annotations

import importlib
import inspect
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeeraser import config, plugins, terminal
from safeeraser.errors import UserError, refused


@dataclass(frozen=True)
class Command:
    """A subcommand: its options and the function ("module:function") that takes them and returns an exit status.

    ``positional`` names the options that are given without a flag, in order and separated by blanks. One with a default
    may be left out, and one that is a list takes one or more.
    """

    options: type[Any]
    function: str
    positional: str | None = None

    @property
    def positionals(self) -> list[str]:
        """The options that are given without a flag, in order."""
        return (self.positional or "").split()


COMMANDS: dict[str, Command] = {
    "bench": Command(config.BenchConfig, "safeeraser.bench:run"),
    "unlearn": Command(config.UnlearnConfig, "safeeraser.commands.line:unlearn"),
    "respond": Command(config.RespondConfig, "safeeraser.commands.line:respond"),
    "judge": Command(config.JudgeConfig, "safeeraser.commands.line:judge"),
    "judge-check": Command(config.JudgeCheckConfig, "safeeraser.commands.judging:check"),
    "score": Command(config.ScoreConfig, "safeeraser.commands.line:score"),
    "plan": Command(config.PlanConfig, "safeeraser.commands.plan:run"),
    "report": Command(config.ReportConfig, "safeeraser.commands.report:report", positional="run"),
    "view": Command(config.ViewConfig, "safeeraser.commands.report:view", positional="run"),
    "playground": Command(config.PlaygroundConfig, "safeeraser.commands.playground:playground", positional="run"),
    "compare": Command(config.CompareConfig, "safeeraser.commands.compare:compare", positional="a b"),
    "agreement": Command(config.AgreementConfig, "safeeraser.commands.agreement:agreement", positional="a b"),
    "leaderboard": Command(config.LeaderboardConfig, "safeeraser.commands.compare:leaderboard", positional="runs"),
    "attack": Command(config.AttackConfig, "safeeraser.commands.attack:attack", positional="run"),
    "specificity": Command(config.SpecificityConfig, "safeeraser.commands.specificity:specificity", positional="run"),
    "export": Command(config.ExportConfig, "safeeraser.commands.export:export", positional="cell"),
    "pretrain": Command(config.PretrainConfig, "safeeraser.commands.line:pretrain"),
    "data build": Command(config.DataBuildConfig, "safeeraser.commands.data:build", positional="name"),
    "data show": Command(config.DataShowConfig, "safeeraser.commands.data:show", positional="folder"),
    "data check": Command(config.DataCheckConfig, "safeeraser.commands.data:check", positional="folder"),
    "data stats": Command(config.DataStatsConfig, "safeeraser.commands.data:stats", positional="folder"),
    "data export": Command(config.DataExportConfig, "safeeraser.commands.data:export", positional="folder"),
    "data complete": Command(config.DataCompleteConfig, "safeeraser.commands.complete:complete", positional="folder"),
    "data import": Command(config.DataImportConfig, "safeeraser.commands.own_data:import_", positional="source"),
}

WARNING = "Content warning: with real models and real data, unsafe images and answers are part of what is measured."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status: 0 done, 1 something failed on the way, 2 unusable input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = _split(arguments)
    if name is None:
        return _overview(arguments)
    command = COMMANDS[name]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character is no error
    try:
        options = _parse(name, command, rest)
        module, function = command.function.split(":")
        return int(getattr(importlib.import_module(module), function)(options))
    except UserError as error:
        terminal.say(f"safeeraser {name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        said = refused(error)
        if said is None:
            raise
        terminal.say(f"safeeraser {name}: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        terminal.say("\ninterrupted: the same command goes on where this one stopped", file=sys.stderr)
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

        terminal.say(f"safeeraser {__version__}")
        return 0
    lines = ["usage: safeeraser COMMAND [OPTIONS]", ""]
    lines += [
        "Safety unlearning for multimodal LLMs: unlearn, answer, judge, score, compare.",
        "",
        "commands:",
    ]
    for name, command in COMMANDS.items():
        lines.append(f"  {name:<13} {_summary(command)}")
    lines += ["", "Start here (no GPU, no network): safeeraser bench --quick"]
    lines += ["Each command explains itself: safeeraser COMMAND --help", "", WARNING]
    asked = not arguments or arguments[0] in ("-h", "--help")
    if asked:
        terminal.say("\n".join(lines))
        return 0
    import difflib

    given = " ".join(arguments[:2]) if arguments[0] == "data" else arguments[0]
    near = difflib.get_close_matches(given, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    terminal.say(f"safeeraser: unknown command {given!r}: {hint}available: {', '.join(COMMANDS)}", file=sys.stderr)
    return 2


def _summary(command: Command) -> str:
    return (inspect.getdoc(command.options) or "").split("\n")[0]


def _parse(name: str, command: Command, arguments: list[str]) -> Any:
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    text, _, example = (inspect.getdoc(command.options) or "").partition("Example:\n")
    parser = ArgumentParser(
        prog=f"safeeraser {name}",
        description=text.strip()
        + "\n\n--GROUP.NAME may be written --NAME where no other option has that name, and - for _.",
        epilog="example:\n" + example if example else None,
        formatter_class=_help_formatter(),
        exit_on_error=True,
    )
    parser.add_argument(
        "--plugins",
        type=str | list[str] | None,
        help="own modules to import first, comma-separated: files such as mine.py, or names of installed modules",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these options, or a recipe's name")
    parser.add_class_arguments(command.options, as_group=False, skip=set(command.positionals) or None)
    for positional in command.positionals:
        count = _count(command.options, positional)
        parser.add_argument(positional, help=_field_help(command.options, positional), **count)
    recipe, arguments = _named_recipe(arguments)
    parser.set_defaults(_recipe(command, recipe, arguments))
    parsed = parser.parse_args(_with_switches(command, _with_groups(command.options, arguments)))
    values = parser.instantiate(parsed).as_dict()
    values.pop("config", None)
    plugins.load(values.pop("plugins", None))  # what they register is looked up from here on
    return command.options(**values)


def _with_groups(options: type[Any], arguments: list[str]) -> list[str]:
    """Let ``--protocol`` mean ``--generation.protocol`` and ``--max-length`` mean ``--training.max_length``.

    The name of a group may be left out where it is not needed, and hyphens may stand for underscores.
    """
    short: dict[str, list[str]] = {}
    for path in _paths(options):
        short.setdefault(path.rpartition(".")[2], []).append(path)
    full = {f"--{name}": f"--{paths[0]}" for name, paths in short.items() if len(paths) == 1}
    full |= {f"--{path}": f"--{path}" for paths in short.values() for path in paths}
    full |= {flag.replace("_", "-"): path for flag, path in full.items()}
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


def _count(options: type[Any], field: str) -> dict[str, Any]:
    """How often a positional option may be given, as argparse wants it said."""
    from dataclasses import MISSING

    declared = options.__dataclass_fields__[field]
    if str(declared.type).startswith("list"):
        return {"nargs": "+"}
    return {} if declared.default is MISSING else {"nargs": "?", "default": declared.default}


def _field_help(options: type[Any], field: str) -> str:
    from docstring_parser.attrdoc import add_attribute_docstrings
    from docstring_parser.google import parse

    docstring = parse(inspect.getdoc(options) or "")
    add_attribute_docstrings(options, docstring)
    return next((p.description or "" for p in docstring.params if p.arg_name == field), "")


def _named_recipe(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take ``--config NAME`` out of the arguments where NAME is a recipe that ships and no file."""
    for position, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        value = value if equals else "".join(arguments[position + 1 : position + 2])
        if flag == "--config" and not Path(value).exists() and config.recipe_model(value):
            return value, arguments[:position] + arguments[position + (1 if equals else 2) :]
    return None, arguments


def _recipe(command: Command, recipe: str | None, arguments: list[str]) -> dict[str, Any]:
    """Defaults of a recipe, or else those that ship for the chosen model, for the option groups of the command."""
    fields = command.options.__dataclass_fields__
    default = fields["model"].default if "model" in fields else ""
    model = (config.recipe_model(recipe) if recipe else None) or (default if isinstance(default, str) else "")
    defaults: dict[str, Any] = {"model": model} if model else {}
    for position, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        value = value or (arguments[position + 1] if position + 1 < len(arguments) else "")
        if flag == "--config":
            shipped = ", ".join(sorted(path.stem for path in config.RECIPES.glob("*.yaml")))
            given = config.read_options(Path(value), f", and no recipe that ships: {shipped}").get("model", model)
            model = given if isinstance(given, str) else model
        elif flag == "--model":
            model = value
    if "model" not in fields:
        return {}
    return defaults | {
        f"{group}.{key}": value
        for group, values in config.recipe_defaults(recipe or model).items()
        if group in fields
        for key, value in _flat(values)
    }


def _flat(values: dict[str, Any]) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        pairs += [(f"{key}.{k}", v) for k, v in _flat(value)] if isinstance(value, dict) else [(key, value)]
    return pairs
