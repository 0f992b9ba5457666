"""For the site: the ``Example:`` of a docstring is shown as code; a module's constants come after what is called."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)Example:\n((?:\1 +.*\n?|\n)+)", re.M)
CONSTANTS = 1_000_000
"""Added to a constant's line: members are shown in the order of their lines."""


def as_code(docstring: str) -> str:
    r"""Turn the example of a docstring into what the site's parser shows as code.

    Example:
        >>> as_code("Run.\n\nExample:\n    safeeraser bench\n")
        'Run.\n\nExample:\n    ```\n    safeeraser bench\n    ```\n'
        >>> as_code("Add.\n\nExample:\n    >>> 1 + 1\n    2\n")
        'Add.\n\nExamples:\n    >>> 1 + 1\n    2\n'
    """
    return _EXAMPLE.sub(_code, docstring)


def _code(found: re.Match[str]) -> str:
    indent, body = found.group(1), textwrap.dedent(found.group(2)).strip()
    title = "Examples" if body.startswith(">>>") else "Example"
    body = body if body.startswith(">>>") else f"```\n{body}\n```"
    return f"{indent}{title}:\n{textwrap.indent(body, indent + '    ')}\n"


class Examples(griffe.Extension):
    """Applies ``as_code`` to every docstring, and moves constants of modules to their end."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change a loaded object."""
        if obj.docstring is not None:
            obj.docstring.value = as_code(obj.docstring.value)
        if obj.is_attribute and obj.parent is not None and obj.parent.is_module and obj.lineno is not None:
            obj.lineno += CONSTANTS

    def on_alias(self, *, alias: griffe.Alias, **kwargs: Any) -> None:
        """Move what a package offers in its own name and is a constant."""
        if alias.name.isupper() and alias.alias_lineno is not None:
            alias.alias_lineno += CONSTANTS
