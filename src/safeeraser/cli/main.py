"""The command line: find the subcommand, run it, report errors in a sentence."""

from __future__ import annotations

import inspect
import io
import select
import sys
from collections.abc import Sequence

from safeeraser.cli.parser import COMMANDS, load, parse
from safeeraser.core import terminal
from safeeraser.core.errors import UserError, refused
from safeeraser.core.registry import suggestion

ABOUT = "Safety unlearning for multimodal LLMs: unlearn, answer, judge, score, compare."
START = "Start here (no GPU, no network): safeeraser bench --quick"
WARNING = "Content warning: with real models and real data, unsafe images and answers are part of what is measured."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit status: 0 done, 1 something failed on the way, 2 unusable input."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = _split(arguments)
    if name is None:
        return _overview(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a character is no error
    try:
        command = load(name)
        return command.function(parse(command, rest))
    except UserError as error:
        terminal.say(f"safeeraser {name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            return 1
        said = refused(error)
        if said is None:
            raise
        terminal.say(f"safeeraser {name}: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        terminal.say("\ninterrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _is_unread() -> bool:
    """Whether standard output is a pipe that nobody reads any more, as with ``| head``."""
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in output.poll(0))


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
    group = "data " if arguments[:1] == ["data"] else ""
    if set(arguments) <= {group.strip(), "-h", "--help"}:
        names = [name for name in COMMANDS if name.startswith(group)]
        listed = [f"  {name:<13} {(inspect.getdoc(load(name).options) or '').splitlines()[0]}" for name in names]
        lines = [f"usage: safeeraser {group}COMMAND [OPTIONS]", "", *([] if group else [ABOUT, ""]), "commands:"]
        lines += [*listed, "", *([] if group else [START])]
        lines += [f"Each command explains itself: safeeraser {group}COMMAND --help", *([] if group else ["", WARNING])]
        terminal.say("\n".join(lines))
        return 0
    given = " ".join(arguments[:2]) if group else arguments[0]
    hint = suggestion(given, COMMANDS)
    terminal.say(f"safeeraser: unknown command {given!r}: {hint}available: {', '.join(COMMANDS)}", file=sys.stderr)
    return 2
