"""Going through many paths at once finds the same files, and refuses the same paths, as looking each one up."""

from __future__ import annotations

from pathlib import Path

import pytest

from safeeraser.data.paths import Locator, locate
from safeeraser.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("outside", "real/img/Weapon"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outside/secret.png").write_text("secret")
    root = tmp_path / "dataset"
    root.symlink_to("real")
    (root / "img/Weapon/1.png").write_text("12345")
    (root / "img/inside").symlink_to("Weapon")
    (root / "img/outside").symlink_to("../../outside")
    (root / "img/Weapon/link.png").symlink_to("1.png")
    (root / "img/Weapon/out.png").symlink_to("../../../outside/secret.png")
    (root / "img/Weapon/loop.png").symlink_to("loop.png")
    return root


PATHS = (
    *("img/Weapon/1.png", "img/inside/1.png", "img/Weapon/link.png", "img/../img/Weapon/1.png", "img//Weapon/./1.png"),
    *("img/outside/secret.png", "img/Weapon/out.png", "img/Weapon/loop.png", "../outside/secret.png", "/etc/hostname"),
    *(
        "img/Weapon",
        "img/Weapon/",
        "img/Weapon/..",
        "img/outside/..",
        "",
        ".",
        "..",
        "img/Weapon/2.png",
        "no/where.png",
    ),
    *("img/Weapon/1.png/x", "zero\0byte", "zero\0byte/1.png", "x" * 300, "img/inside/../../../outside/secret.png"),
)


def told(find: object) -> tuple[Path, int] | str:
    try:
        return find()  # type: ignore[operator]
    except UserError as error:
        return str(error)


def test_many_paths_at_once_are_each_of_them_alone(root: Path) -> None:
    locator = Locator(root)
    for path in (*PATHS, *PATHS):  # the second time from memory
        assert told(lambda path=path: locator.locate(path)) == told(lambda path=path: locate(root, path)), repr(path)


def test_what_leads_outside_is_refused_although_its_folder_is_known(root: Path) -> None:
    locator = Locator(root)
    assert locator.locate("img/inside/1.png") == (root.resolve() / "img/Weapon/1.png", 5)
    for path in ("img/outside/secret.png", "img/Weapon/out.png", "img/inside/out.png"):
        with pytest.raises(UserError, match="leaves the dataset folder"):
            locator.locate(path)
