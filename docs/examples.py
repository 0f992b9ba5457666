"""For the site: shows the ``Example:`` of a docstring as code, a session or commands."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^( *)Example:\n((?:\1 +.*\n?|\n)+)", re.M)


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
    """Applies ``as_code`` to every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of a loaded object."""
        if obj.docstring is not None:
            obj.docstring.value = as_code(obj.docstring.value)
