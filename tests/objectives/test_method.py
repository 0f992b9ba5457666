"""Strings and mappings to methods."""

import re

import pytest

from safeeraser.core.errors import UserError
from safeeraser.objectives import METHODS, ROWS, TERMS, parse_method


def weights(method: str | dict[str, float], preset: str = "default") -> dict[str, float]:
    return {term.name: weight for term, weight in parse_method(method, preset).terms}


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("ga", {"ga": 1}),
        ("gd", {"ga": 1, "nll": 1}),
        ("kl", {"ga": 1, "kl": 1}),
        ("po", {"po": 1, "nll": 1}),
        ("npo", {"npo": 1, "nll": 1}),
        ("simnpo", {"simnpo": 1, "nll": 1}),
        ("dpo", {"dpo": 1, "nll": 1}),
        ("rmu", {"rmu": 1, "rmu_retain": 1}),
        ("undial", {"undial": 1, "nll": 1}),
        ("satimp", {"satimp": 1, "nll": 1}),
        ("ce_u", {"ce_u": 1, "nll": 1}),
        ("wga", {"wga": 1, "nll": 1}),
    ],
)
def test_named_methods_and_pd_adds_one_term_and_changes_nothing_else(method: str, expected: dict[str, float]) -> None:
    assert weights(method) == expected
    assert weights(f"{method}+pd") == {**expected, "pd": 1}


def test_the_official_preset_has_the_weights_of_the_official_code() -> None:
    """PD at 0.5 with GA and GD, where GD's retain weight falls to 0.5 as well; 1 with KL and PO."""
    assert weights("ga+pd", "official") == {"ga": 1, "pd": 0.5}
    assert weights("gd", "official") == {"ga": 1, "nll": 1}
    assert weights("gd+pd", "official") == {"ga": 1, "nll": 0.5, "pd": 0.5}
    assert weights("kl+pd", "official") == {"ga": 1, "kl": 1, "pd": 1}
    assert weights("po+pd", "official") == {"po": 1, "nll": 1, "pd": 1}
    assert weights({"ga": 1, "pd": 1}, "official") == {"ga": 1, "pd": 1}


@pytest.mark.parametrize("preset", ["default", "official"])
@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("po+pd", "po+pd"),
        ("pd+po", "po+pd"),
        ("ga+nll+pd", "gd+pd"),
        (" po + pd ", "po+pd"),
        ("po+kl+pd", "po+kl+pd"),
        ("ga+nll=0.3", "ga+nll=0.3"),
        ("gd+pd=0", "gd"),
        ("kl=1", "kl=1"),
        ("nll+ga=1e-05", "ga=1e-05+nll"),
        ({"po": 1, "nll": 1, "pd": 0.5}, "po+pd=0.5"),
        ({"nll": 1, "po": 1}, "po"),
        ({"po": 2}, "po=2"),
        ({"po": 1}, "po=1"),
        ({"ga": 1}, "ga"),
        ("pd", "pd"),
        ("pd+rmu", "rmu+pd"),
        ("rmu=1", "rmu=1"),
        ({"rmu": 1, "rmu_retain": 1200}, "rmu+rmu_retain=1200"),
    ],
)
def test_name_is_canonical_parses_back_and_is_safe_for_files(method, name, preset):
    parsed = parse_method(method, preset)
    assert parsed.name == name
    assert parse_method(parsed.name, preset) == parsed
    assert re.fullmatch(r"[a-z0-9_+=.-]+", parsed.name)


def test_rows_and_needs_come_from_the_terms() -> None:
    assert parse_method("ga").rows == ("forget",)
    assert parse_method("po+pd").rows == ("refusal", "retain", "decouple")
    assert parse_method("po+pd").reference_rows == ()
    assert parse_method("kl").needs == {"reference", "distribution"}
    assert parse_method("kl+pd").reference_rows == ("retain",)
    assert parse_method("npo+pd").reference_rows == ("forget",)
    assert parse_method("dpo+pd").rows == ("forget", "refusal", "retain", "decouple")
    assert parse_method("dpo+pd").reference_rows == ("forget", "refusal")
    assert parse_method("undial+pd").needs == {"reference", "distribution"}
    assert parse_method("undial+pd").reference_rows == ("forget",)
    assert parse_method("ce_u+pd").needs == {"distribution"}
    assert parse_method("ce_u+pd").reference_rows == parse_method("satimp+wga").reference_rows == ()
    assert parse_method("rmu+pd").needs == {"reference", "hidden"}
    assert parse_method("rmu+pd").reference_rows == ("retain",)


def test_a_weight_of_zero_leaves_the_base_method() -> None:
    for base, names in METHODS:
        assert parse_method({**dict.fromkeys(names, 1.0), "pd": 0.0}) == parse_method(base)


def test_every_term_can_be_named_with_every_other() -> None:
    for name, term in TERMS:
        assert term.rows and set(term.rows) <= set(ROWS)
        for other in TERMS.names():
            if other != name:
                method = parse_method({name: 1, other: 2})
                assert parse_method(method.name) == method


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("popd", "unknown method 'popd': did you mean 'po\\+pd'\\?"),
        ("", "unknown method ''.*methods: ce_u, dpo, ga, gd, kl, npo"),
        ("po+nl", "unknown term 'nl': did you mean 'nll'\\?"),
        ("gd+kl", "unknown term 'gd': as terms, 'gd' is 'ga\\+nll'"),
        ("ga+ga", "names 'ga' twice"),
        ("po+pd+pd", "names 'pd' twice"),
        ("po+pd=much", "'much' is not a weight.*'pd=0.5'"),
        ("po+pd=-1", "'-1' is not a weight"),
        ("po+pd=nan", "'nan' is not a weight"),
        ({"po": -1}, "weight of 'po' is -1"),
        ({"po": True}, "weight of 'po' is True"),
        ({"po": "1"}, "weight of 'po' is '1'"),
        ({"po": None}, "weight of 'po' is None"),
        ({"pod": 1}, "unknown term 'pod': did you mean 'po'"),
        ({"po": 0}, "no term of a weight above 0"),
        ({}, "no term of a weight above 0"),
    ],
)
def test_bad_methods_are_refused_with_what_to_do(method: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_method(method)
