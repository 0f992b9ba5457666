"""A rule over metrics, such as ``ASR<=2 and RR>=97``: when training may stop."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from safeeraser.core.errors import UserError
from safeeraser.metrics.base import METRICS
from safeeraser.records import QuerySet

SHORT = {"asr": "asr_generality", "rr": "rr_generality"}
"""Short names: a rule is about questions that were not trained on."""
ASKED: tuple[QuerySet, ...] = ("generality", "retain", "safe")
"""Sets that held-out records have questions in."""
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"([A-Za-z]\w*)\s*(<=|>=|<|>)\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Rule:
    """Conditions that all have to hold: the name of a metric, an operator, and a bound in percent."""

    conditions: tuple[tuple[str, str, float], ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that it reads."""
        return tuple(dict.fromkeys(name for name, _, _ in self.conditions))

    @property
    def sets(self) -> frozenset[QuerySet]:
        """Sets of questions that have to be asked for it."""
        return frozenset(METRICS.get(name).on for name in self.metrics)

    def is_met(self, values: Mapping[str, float | None]) -> bool:
        """Whether every condition holds of metrics in percent, by name; one whose metric has no value does not.

        Example:
            >>> rule = parse_rule("ASR<=2 and RR>=97")
            >>> rule.is_met({"asr_generality": 0.0, "rr_generality": 97.0}), rule.is_met({"asr_generality": 0.0})
            (True, False)
        """
        found = ((values.get(name), compare, bound) for name, compare, bound in self.conditions)
        return all(value is not None and _OPERATORS[compare](value, bound) for value, compare, bound in found)


def parse_rule(text: str) -> Rule:
    """Read a rule: conditions with ``and`` between them, in percent.

    ``ASR`` and ``RR`` are those of held-out questions, other names are those of metrics.

    Raises:
        UserError: If it is no rule, or a metric is unknown or none of forget, retain and safe questions.

    Example:
        >>> parse_rule("ASR<=2 and SARR < 10").conditions
        (('asr_generality', '<=', 2.0), ('sarr', '<', 10.0))
        >>> parse_rule("ASR=2")
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: training.stop: 'ASR=2' is no condition: write such as 'ASR<=2 and RR>=97' ...
    """
    conditions = []
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE):
        if (found := _CONDITION.fullmatch(part)) is None:
            raise UserError(
                f"training.stop: {part!r} is no condition: write such as 'ASR<=2 and RR>=97' (in percent; <=, >=, <, >)"
            )
        name = found[1].lower()
        name = SHORT.get(name, name)
        if METRICS.get(name).on not in ASKED:
            known = ", ".join(name for name, metric in METRICS if metric.on in ASKED)
            raise UserError(f"training.stop: {found[1]} is not measured on held-out records; these are: {known}")
        conditions.append((name, found[2], float(found[3])))
    return Rule(tuple(conditions))
