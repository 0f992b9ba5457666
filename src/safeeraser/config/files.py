"""YAML files of options: a user's own, and the recipes that ship."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safeeraser.core.errors import UserError

RECIPES = Path(__file__).parent / "recipes"
"""A YAML file for each model that options ship for; in ``accelerate/``, how to launch several processes."""
REMOTE_CODE = "trust_remote_code"
_LLAMA = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
"""What transformers takes where a Llama's config.json leaves it out, as that of LLaVA-1.5-7B does."""


def read_options(path: Path, also: str = "") -> dict[str, Any]:
    """Read a YAML file of options.

    Raises:
        UserError: If it cannot be read, is not YAML, holds tags that would make Python objects, names keys twice, is
            no mapping, or asks for code of a checkpoint to be run.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(names)) < len(names):  # YAML forbids it, PyYAML takes the last one without a word
                raise yaml.MarkedYAMLError(problem="a key stands here twice", problem_mark=node.start_mark)
            if REMOTE_CODE in names:
                raise UserError(
                    f"{path}: {REMOTE_CODE} is refused: code that comes with a checkpoint is never run; use a model of "
                    "a family that transformers itself knows (docs/models.md)"
                )
            return super().construct_mapping(node, deep)

    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except OSError as error:
        raise UserError(f"{path}: {'no such file' if error.errno == errno.ENOENT else error.strerror}{also}") from None
    except yaml.constructor.ConstructorError as error:
        raise UserError(
            f"{path}: {error.problem}: options are plain texts, numbers, lists and mappings; a tag that makes "
            "anything else is never followed"
        ) from None
    except UserError:  # a ValueError, too
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())[:300]})") from None
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise UserError(f"{path}: not a mapping of options, such as 'methods: po,po+pd'")
    return loaded


def recipe_defaults(name: str) -> dict[str, dict[str, object]]:
    """Return the option values that ship for a model or under a recipe's name ({} if none), by option group.

    Args:
        name: Name of a recipe (``llava-1.5-7b-24gb``) or of a model (``llava-hf/llava-1.5-7b-hf``), or a checkpoint, by
            folder or hub name, whose config.json has the type, widths and depth of one; of several recipes for one
            model, the one with the shortest name is its default.

    Example:
        >>> recipe_defaults("mini-llava")["training"]["learning_rate"] > 0
        True
        >>> recipe_defaults("llava-hf/llava-1.5-7b-hf")["training"]["seed"]
        233
    """
    loaded = _recipes()
    named = [recipe for recipe in loaded if name in (recipe, loaded[recipe]["model"])]
    if not named:
        config = _model_config(name)
        named = [recipe for recipe in loaded if config and is_of(config, loaded[recipe]["architecture"])]
    found = name if name in named else min(named, key=len, default="")
    return {group: values for group, values in loaded.get(found, {}).items() if group not in ("model", "architecture")}


def recipe_model(name: str) -> str | None:
    """Return the model of a recipe; None if there is no recipe of this name.

    Example:
        >>> recipe_model("llava-1.5-7b-24gb")
        'llava-hf/llava-1.5-7b-hf'
    """
    return _recipes().get(name, {}).get("model")


def is_of(config: Mapping[str, Any], architecture: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a model of an architecture: its ``model_type`` and its language model's numbers.

    Older files have these numbers at the top, and LLaVA's leave out those that are Llama's own defaults.

    Example:
        >>> sizes = {"hidden_size": 4096, "num_hidden_layers": 32}
        >>> is_of({"model_type": "llava", "text_config": {"model_type": "llama"}}, {"model_type": "llava", **sizes})
        True
    """
    text = config.get("text_config")
    text = text if isinstance(text, dict) else {}
    is_llama = config.get("model_type") == "llava" and text.get("model_type", "llama") == "llama"
    numbers = (_LLAMA if is_llama else {}) | dict(config) | text | {"model_type": config.get("model_type")}
    return all(numbers.get(name) == value for name, value in architecture.items())


def _model_config(name: str) -> dict[str, Any]:
    """What stands in a checkpoint's config.json; {} if there is none, which is said where the model is loaded."""
    path = Path(name).expanduser() / "config.json"
    if not path.is_file():
        if name.count("/") != 1 or name.startswith((".", "/", "~")) or Path(name).exists():
            return {}
        from huggingface_hub import hf_hub_download

        try:
            path = Path(hf_hub_download(name, "config.json"))
        except (OSError, ValueError):
            return {}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


@cache
def _recipes() -> dict[str, dict[str, Any]]:
    return {path.stem: read_options(path) for path in sorted(RECIPES.glob("*.yaml"))}
