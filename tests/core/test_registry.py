import pytest

from safeeraser.core.errors import UserError
from safeeraser.core.registry import Registry


def test_an_unknown_name_is_answered_with_the_nearest_and_all():
    metrics: Registry[int] = Registry("metric")
    metrics.add("sarr", 1)
    metrics.register("rouge_l")(2)
    with pytest.raises(UserError, match="unknown metric 'sar': did you mean 'sarr'\\? available: rouge_l, sarr"):
        metrics.get("sar")


def test_a_duplicate_name_is_refused():
    registry: Registry[int] = Registry("judge")
    registry.add("rules", 1)
    with pytest.raises(ValueError, match="duplicate judge 'rules'"):
        registry.add("rules", 2)


def test_dropping_a_file_into_the_package_is_enough(tmp_path, monkeypatch):
    package = tmp_path / "dropped"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from safeeraser.core.registry import Registry\nTHINGS: Registry = Registry('thing', 'dropped')\n"
    )
    (package / "one.py").write_text("from dropped import THINGS\nTHINGS.add('one', 1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from dropped import THINGS  # type: ignore[import-not-found]

    assert dict(THINGS) == {"one": 1}
