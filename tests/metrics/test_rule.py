"""Rules of early stopping."""

import pytest

from safeeraser.core.errors import UserError
from safeeraser.metrics.rule import parse_rule


def test_all_conditions_have_to_hold_and_a_metric_without_value_holds_none() -> None:
    rule = parse_rule("ASR <= 2 AND rr>97.5 and sarr_plus<10")
    assert rule.conditions == (("asr_generality", "<=", 2), ("rr_generality", ">", 97.5), ("sarr_plus", "<", 10))
    assert rule.sets == {"generality", "safe"}
    met = {"asr_generality": 2.0, "rr_generality": 98.0, "sarr_plus": 9.9}
    assert rule.is_met(met)
    for name, value in [("asr_generality", 2.1), ("rr_generality", 97.5), ("sarr_plus", 10.0), ("sarr_plus", None)]:
        assert not rule.is_met(met | {name: value})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no condition"),
        ("ASR<=2 or RR>=97", "'ASR<=2 or RR>=97' is no condition"),
        ("ASR<=-1", "no condition"),
        ("asx<=2", "unknown metric 'asx'"),
        ("asr_efficacy<=2", "asr_efficacy is not measured on held-out records"),
        ("specificity>=80", "specificity is not measured"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_part(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_rule(text)
