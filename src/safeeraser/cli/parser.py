"""Subcommands and how their arguments are parsed: flags, help and YAML keys come from option dataclasses."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
from argparse import ArgumentError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

from safeeraser import config
from safeeraser.config.names import full_names, marked, option_types
from safeeraser.config.options import PATH
from safeeraser.core import registry
from safeeraser.core.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from safeeraser.core.options import Option

COMMANDS: dict[str, str] = {
    "bench": "bench.bench",
    "unlearn": "stages.unlearn",
    "respond": "stages.respond",
    "judge": "judging.judge",
    "judge-check": "judging.check",
    "score": "stages.score",
    "plan": "plan.plan",
    "report": "report.report",
    "view": "report.view",
    "playground": "playground.playground",
    "compare": "compare.compare",
    "agreement": "agreement.agreement",
    "leaderboard": "compare.leaderboard",
    "attack": "attack.attack",
    "audit": "attack.audit",
    "specificity": "specificity.specificity",
    "safety": "safety.safety",
    "export": "export.export",
    "pretrain": "pretrain.pretrain",
    "data build": "data.build",
    "data show": "data.show",
    "data check": "data_check.check",
    "data stats": "data_stats.stats",
    "data export": "data.export",
    "data complete": "data_complete.complete",
    "data import": "data_import.import_",
}
"""Subcommand -> module and function here, imported when asked for; the function's argument is its option dataclass."""
T = TypeVar("T")
GENERAL = ("help", "config", "plugins", "print_config", "print_shtab")
USUAL = {
    "lr": "learning_rate",
    "mm_projector_lr": "projector_rate",
    "bs": "batch_size",
    "max_tokens": "max_new_tokens",
    "output": "out",
    "dataset": "data",
    "lora_rank": "rank",
    "gradient_accumulation_steps": "accumulation",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
}
"""What other programs call an option of ours."""
POSITIONAL = "positional"
Positional = Annotated[T, POSITIONAL]
"""Type of an option that is given without a flag; one with a default may be left out, a list takes one or more."""


@dataclass(frozen=True)
class Command:
    """A subcommand: its options and the function that takes them and returns an exit status."""

    name: str
    options: type[Any]
    function: Callable[[Any], int]

    @cached_property
    def positionals(self) -> list[str]:
        """The options that are given without a flag, in order."""
        return marked(self.options, POSITIONAL)


def load(name: str) -> Command:
    """Import a subcommand.

    Example:
        >>> load("data show").positionals
        ['folder']
    """
    module, _, function = COMMANDS[name].partition(".")
    loaded = getattr(importlib.import_module(f"safeeraser.cli.{module}"), function)
    return Command(name, get_type_hints(loaded)["options"], loaded)


def parse(command: Command, arguments: list[str]) -> Any:
    """Parse a subcommand's arguments into its options; exits with usage and status 2 where they are unusable."""
    plugins, arguments = _split_off("--plugins", arguments)
    configs, arguments = _split_off("--config", arguments)
    files, recipe = _read(configs)
    for names in plugins or [values["plugins"] for values in files.values() if "plugins" in values]:
        registry.load_plugins(names)  # what they register has options, too, and is looked up from here on
    target, added = added_options(command.options)
    parser = _parser(command, added)
    known = [*option_types(command.options), *added]
    arguments = _with_switches(command.options, _with_groups(known, arguments))
    _check_flags(command, known, arguments)
    parser.set_defaults(_defaults(command.options, recipe, [*files.values()], arguments))
    # files first, so that flags go before them wherever they stand
    try:
        parsed = parser.parse_args([*(f"--config={path}" for path in files), *arguments])
    except ArgumentError as error:
        said = re.sub(
            r"Does not validate .* Errors: - (.*) Given value type: .* Given value: (.*)",
            lambda told: f"{told[2]}: {told[1].replace(' - ', ' or ')}",
            " ".join(str(error).split()),
        )
        if short := re.match(r"ambiguous option: (--\S+)", said):  # the beginning of several
            raise _no_such(command, short[1], known) from None
        raise UserError(f"{said}; 'safeeraser {command.name} --help' lists all options") from None
    if {"training", "loading"} <= command.options.__dataclass_fields__.keys() and not Path(parsed["model"]).exists():
        parsed["model"] = config.recipe_model(parsed["model"]) or parsed["model"]  # the short names that 'plan' knows
    if added:
        parsed[target] = {added[path].name: parsed.pop(path) for path in added} | parsed[target]
    for path in marked(command.options, PATH):
        parsed[path] = _at_home(parsed[path])
    values = parser.instantiate(parsed).as_dict()
    return command.options(**{name: values[name] for name in command.options.__dataclass_fields__})


def _parser(command: Command, added: Mapping[str, Option]) -> ArgumentParser:
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    text, _, example = (inspect.getdoc(command.options) or "").partition("Example:\n")
    parser = ArgumentParser(
        prog=f"safeeraser {command.name}",
        description=text.strip()
        + "\n\n--GROUP.NAME may be written --NAME where no other option, or none but of training, has that name, and - "
        "for _.",
        epilog="example:\n" + example if example else None,
        formatter_class=type("HelpFormatter", (DefaultHelpFormatter, RawDescriptionHelpFormatter), {}),
        usage=" ".join([f"safeeraser {command.name}", *map(str.upper, command.positionals), "[OPTIONS]"]),
        exit_on_error=False,
    )
    parser.add_argument(
        "--plugins",
        type=str | list[str] | None,
        help="own modules to import first, comma-separated: files such as mine.py, or names of installed modules",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these options, or a recipe's name")
    parser.add_class_arguments(command.options, as_group=False, skip=set(command.positionals) or None)
    _regroup(parser, getattr(command.options, "GROUPS", {}))
    group = (parser.groups or {}).get("training", parser)
    for path, option in added.items():
        kind = get_type_hints(type("_", (), {"__annotations__": {"_": option.type}}))["_"]  # without its constraints
        group.add_argument(f"--{path}", type=kind, default=option.default, help=option.help)
    for positional in command.positionals:
        count = _count(command.options, positional)
        parser.add_argument(positional, help=field_help(command.options, positional), **count)
    return parser


def _regroup(parser: ArgumentParser, groups: Mapping[str, Sequence[str]]) -> None:
    """Move options of the help's first group to groups of their own behind it; argparse cannot do it when adding."""
    first, standing = parser._optionals, list(parser._action_groups)
    for title, names in groups.items():
        group = parser.add_argument_group(title)
        group._group_actions = [action for action in first._group_actions if action.dest in names]
        first._group_actions = [action for action in first._group_actions if action.dest not in names]
    place = 1 + next(index for index, group in enumerate(standing) if group is first)
    added = parser._action_groups[len(standing) :]
    parser._action_groups = [*standing[:place], *added, *standing[place:]]


def added_options(options: type[Any]) -> tuple[str, dict[str, Option]]:
    """Options that are arguments of terms or attacks, by dotted name, and the field that takes their values."""
    if "training" in options.__dataclass_fields__:
        from safeeraser.objectives import term_options

        return "training.terms", {f"training.{name}": option for name, option in term_options().items()}
    if "attack_options" in options.__dataclass_fields__:
        from safeeraser.attacks import attack_options

        own = options.__dataclass_fields__  # translations: a file on the command line, what it holds for the attack
        return "attack_options", {name: option for name, option in attack_options().items() if name not in own}
    return "", {}


def field_help(options: type[Any], field: str) -> str:
    """The docstring of a field."""
    from docstring_parser.attrdoc import add_attribute_docstrings
    from docstring_parser.google import parse

    docstring = parse(inspect.getdoc(options) or "")
    add_attribute_docstrings(options, docstring)
    return next((p.description or "" for p in docstring.params if p.arg_name == field), "")


def _at_home(value: Any) -> Any:
    """A path, or a list of them, with the home folder for ``~``: no shell has looked at what stands in YAML."""
    if isinstance(value, list):
        return [_at_home(item) for item in value]
    return os.path.expanduser(value) if isinstance(value, str) else value


def _with_groups(known: Sequence[str], arguments: list[str]) -> list[str]:
    """Let ``--protocol`` mean ``--generation.protocol`` and ``--max-length`` mean ``--training.max_length``.

    The name of a group may be left out as ``full_names`` has it, and hyphens may stand for underscores.
    """
    full = {f"--{name}": f"--{path}" for name, path in full_names(known).items()}
    full |= {flag.replace("_", "-"): path for flag, path in full.items()}
    split = [argument.partition("=") for argument in arguments]
    return [full.get(flag, flag) + equals + value for flag, equals, value in split]


def _check_flags(command: Command, known: Sequence[str], arguments: list[str]) -> None:
    """Refuse a flag that there is not, with the nearest one, before the parser answers with all there are."""
    options = [name for name in known if name not in command.positionals]
    there = [f"--{name}" for name in (*options, *GENERAL)]
    mappings = [f"--{name}" for name, kind in option_types(command.options).items() if "dict[" in str(kind)]
    for argument in arguments:
        flag = argument.partition("=")[0].removesuffix("+")
        if argument == "--":
            return
        # its beginning, a group as a whole, or a key of a mapping: the parser decides
        is_known = any(name.startswith(flag) or (name in mappings and flag.startswith(f"{name}.")) for name in there)
        if flag.startswith("--") and not is_known:
            raise _no_such(command, flag, options)


def _no_such(command: Command, flag: str, options: Sequence[str]) -> UserError:
    """The error for a flag, with what it is short for, or else the nearest name, its group left out or not."""
    word = flag.lstrip("-").replace("-", "_")
    last = word.rpartition(".")[2]  # the group may be a wrong one
    means = [option for option in options if option.rpartition(".")[2] in (last, USUAL.get(last))]
    by_name = {name: option for option in options for name in (option.rpartition(".")[2], option)}
    near = means or [by_name[name] for name in difflib.get_close_matches(word, by_name, n=1)]
    hint = f"did you mean {' or '.join(f'--{option}' for option in near)}? " if near else ""
    return UserError(f"{flag}: no such option: {hint}'safeeraser {command.name} --help' lists them")


def _with_switches(options: type[Any], arguments: list[str]) -> list[str]:
    """Let ``--quick`` alone mean ``--quick true``."""
    switches = {
        f"--{path}": {"true", "false", *(word for other in get_args(kind) for word in get_args(other))}
        for path, kind in option_types(options).items()
        if bool in (kind, *get_args(kind))
    }
    return [
        f"{argument}=true" if argument in switches and str(after).lower() not in switches[argument] else argument
        for argument, after in zip_longest(arguments, arguments[1:])
    ]


def _count(options: type[Any], field: str) -> dict[str, Any]:
    """How often a positional option may be given, in argparse's terms."""
    if get_type_hints(options)[field] == list[str]:
        return {"nargs": "+"}
    default = options.__dataclass_fields__[field].default
    return {} if default is MISSING else {"nargs": "?", "default": default}


def _split_off(flag: str, arguments: list[str]) -> tuple[list[str], list[str]]:
    """The values of a flag, and the arguments without it."""
    from argparse import ArgumentParser

    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(flag, dest="values", action="append", default=[])
    try:
        known, others = parser.parse_known_args(arguments)
    except ArgumentError:
        raise UserError(f"{flag} needs a value behind it") from None
    return known.values, others


def _read(configs: list[str]) -> tuple[dict[str, dict[str, Any]], str | None]:
    """What stands in files of options, by path, and the recipe that is named beside them."""
    files, recipe = {}, None
    also = f", and no recipe that ships: {', '.join(sorted(path.stem for path in config.RECIPES.glob('*.yaml')))}"
    for path in map(os.path.expanduser, configs):
        if not Path(path).exists() and config.recipe_model(path):
            recipe = path
        else:
            files[path] = config.read_options(Path(path), also)
    return files, recipe


def _defaults(
    options: type[Any], recipe: str | None, files: list[dict[str, Any]], arguments: list[str]
) -> dict[str, Any]:
    """Defaults of a recipe, or else those that ship for the chosen model, for the option groups of a subcommand."""
    from safeeraser.core.files import flat  # pydantic, which --help does without

    fields = options.__dataclass_fields__
    if "model" not in fields or {"--help", "-h"} & set(arguments):
        return {}
    named = [values["model"] for values in files if "model" in values] + _split_off("--model", arguments)[0]
    defaults: dict[str, Any] = {"model": config.recipe_model(recipe)} if recipe else {}
    for group, values in config.recipe_defaults(recipe or str([fields["model"].default, *named][-1])).items():
        if group in fields:
            defaults |= {f"{group}.{key}": value for key, value in flat(values).items()}
    return defaults
