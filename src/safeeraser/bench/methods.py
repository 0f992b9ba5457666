"""The methods of a bench, as options give them: names, or mappings of terms to weights."""

from __future__ import annotations

from safeeraser.config import BenchConfig
from safeeraser.core.errors import UserError

QUICK = ["vanilla", "po", "po+pd"]
MethodOption = str | dict[str, float]


def chosen(config: BenchConfig) -> list[MethodOption]:
    """The methods that a bench is to run, as they were given; mappings also in YAML's short form.

    Raises:
        UserError: If a list of mappings cannot be read.

    Example:
        >>> chosen(BenchConfig(methods="vanilla,{po: 1, pd: 0.5}"))
        ['vanilla', {'po': 1, 'pd': 0.5}]
    """
    import yaml

    text = config.methods
    if config.quick or not isinstance(text, str):
        return list(QUICK if config.quick else text)
    if "{" not in text:
        return [name.strip() for name in text.split(",") if name.strip()]
    try:
        listed = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        listed = [None]
    if not all(isinstance(one, str | dict) for one in listed):
        raise UserError(f"--methods {text}: give names and mappings, such as 'po,{{po: 1, nll: 1, pd: 0.5}}'")
    return list(listed)
