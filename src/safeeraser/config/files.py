"""YAML files of options, looked through before they are parsed: what is wrong with one is said in a sentence."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from safeeraser.errors import UserError

MAX_VALUES = 10_000
"""Values in a file at most, each counted as often as an alias repeats it: a few lines can mean billions."""
MAX_DEPTH = 20
REMOTE_CODE = "trust_remote_code"


def read_options(path: Path, also: str = "") -> dict[str, Any]:
    """Read a YAML file of options.

    Args:
        path: The file.
        also: What to add where it cannot be read: what else may be meant.

    Raises:
        UserError: If it cannot be read, is not YAML, holds tags that would make Python objects, names keys twice, is
            no mapping, is deeper than ``MAX_DEPTH``, expands beyond ``MAX_VALUES``, or asks for code of a checkpoint
            to be run.

    Example:
        >>> read_options(Path("nowhere.yaml"))
        Traceback (most recent call last):
        safeeraser.errors.UserError: nowhere.yaml: no such file
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(names)) < len(names):
                raise yaml.MarkedYAMLError(problem="a key stands here twice", problem_mark=node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        text = path.read_text(encoding="utf-8")
        _check_depth(path, text)
        loaded = yaml.load(text, Loader)
    except OSError as error:
        raise UserError(f"{path}: {'no such file' if error.errno == errno.ENOENT else error.strerror}{also}") from None
    except yaml.constructor.ConstructorError as error:
        raise UserError(
            f"{path}: {error.problem}: options are plain texts, numbers, lists and mappings; a tag that makes "
            "anything else is never followed"
        ) from None
    except UserError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())[:300]})") from None
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise UserError(f"{path}: not a mapping of options, such as 'methods: po,po+pd'")
    _look_through(path, loaded)
    return loaded


def _check_depth(path: Path, text: str) -> None:
    """The parser takes minutes for some thousand brackets."""
    import yaml

    depth = 0
    for token in yaml.scan(text, yaml.SafeLoader):
        name = type(token).__name__
        depth += name.endswith(("SequenceStartToken", "MappingStartToken")) - name.endswith("EndToken")
        depth += name in ("StreamEndToken", "DocumentEndToken")  # these end what was not counted
        if depth > MAX_DEPTH:
            raise UserError(f"{path}: lists and mappings within each other {MAX_DEPTH} deep: no options are")


def _look_through(path: Path, loaded: dict[str, Any]) -> None:
    waiting: list[Any] = [loaded]
    seen = 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise UserError(f"{path}: more than {MAX_VALUES:,} values, aliases counted: no options are that many")
        if isinstance(value, dict):
            if REMOTE_CODE in value:
                raise UserError(
                    f"{path}: {REMOTE_CODE} is refused: code that comes with a checkpoint is never run; use a model of "
                    "a family that transformers itself knows (docs/models.md)"
                )
            waiting += [inner for pair in value.items() for inner in pair]
        elif isinstance(value, list):
            waiting += value
