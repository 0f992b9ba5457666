"""What reaches the terminal: texts of models, servers and data are shown, never obeyed.

An answer may hold escape sequences, which move the cursor, rename the window or hide what stands beside them.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["console", "plain", "say"]

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line end
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that turn the direction of writing
    "\ud800-\udfff]"  # halves of characters
)


def plain(text: object) -> str:
    r"""The text with every character that a terminal obeys written out.

    Example:
        >>> print(plain("red: \x1b[31m"))
        red: \x1b[31m
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def say(text: object = "", file: TextIO | None = None) -> None:
    r"""Print a text that may hold anything.

    Example:
        >>> say("nul \x00")
        nul \x00
    """
    print(plain(text), file=file or sys.stdout, flush=True)


def console(width: int | None = None, stderr: bool = False, highlight: bool = True) -> Console:
    r"""A console whose strings, also those in tables, are shown as they are: no markup, nothing that is obeyed.

    Args:
        width: Width where the output is no terminal; None: the library's choice.
        stderr: Write to standard error instead of standard output.
        highlight: Colour numbers and the like.

    Example:
        >>> console(40).print("[red] \x1b[31m", highlight=False)
        [red] \x1b[31m
    """
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(plain(text), **options)

    stream = sys.stderr if stderr else sys.stdout
    return PlainConsole(
        width=None if stream.isatty() else width, stderr=stderr, highlight=highlight, markup=False, emoji=False
    )
