"""Image paths of records lead to files inside the dataset folder, or are refused."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from safeeraser.core.errors import UserError
from safeeraser.data.paths import LINKED_FOLDERS, locate


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


INSIDE = (
    "img/Weapon/1.png",
    "img/inside/1.png",
    "img/Weapon/link.png",
    "img/../img/Weapon/1.png",
    "img//Weapon/./1.png",
)
OUTSIDE = ("img/outside/secret.png", "img/Weapon/out.png", "img/inside/out.png", "../outside/secret.png")
NOTHING = (
    "img/Weapon/loop.png", "/etc/hostname", "img/Weapon", "img/Weapon/", "img/Weapon/..", "img/outside/..", "", ".",
    "..", "img/Weapon/2.png", "no/where.png", "img/Weapon/1.png/x", "zero\0byte", "zero\0byte/1.png", "x" * 300,
    "img/inside/../../../outside/secret.png",
)  # fmt: skip


@pytest.mark.parametrize("path", INSIDE)
def test_what_leads_to_a_file_inside_the_folder_is_found(path, root):
    assert locate(root, path) == (root.resolve() / "img/Weapon/1.png", 5)


@pytest.mark.parametrize("path", [*OUTSIDE, *NOTHING])
def test_nothing_else_is(path, root):
    with pytest.raises(UserError, match="leaves the dataset folder" if path in OUTSIDE else ""):
        locate(root, path)


def test_a_link_that_leads_out_is_named_with_its_target_and_the_way_out(root, monkeypatch):
    outside = root.resolve().parent / "outside"
    for path, link in (("img/outside/secret.png", "img/outside"), ("img/Weapon/out.png", "img/Weapon/out.png")):
        target = outside if link == "img/outside" else outside / "secret.png"
        with pytest.raises(UserError) as raised:
            locate(root, path)
        message = f"by a link: {root.resolve() / link} leads to {target}. .* {LINKED_FOLDERS}={outside}; .*cp -rL"
        assert re.search(message, str(raised.value))
    monkeypatch.setenv(LINKED_FOLDERS, f"/nowhere:{outside}")
    for path in ("img/outside/secret.png", "img/Weapon/out.png"):
        assert locate(root, path) == (outside / "secret.png", 6)
    for path in ("../outside/secret.png", str(outside / "secret.png")):  # the record's own doing, and no link
        with pytest.raises(UserError, match="only paths inside it are read"):
            locate(root, path)


def test_a_snapshot_of_the_hub_is_links_to_its_blobs(tmp_path: Path) -> None:
    """As ``huggingface_hub.snapshot_download`` lays it out; other links in it are as everywhere."""
    repository = tmp_path / "datasets--me--mine"
    root = repository / "snapshots" / "0a1b" / "dataset"
    (root / "img").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs/5f2c").write_text("12345")
    (tmp_path / "secret.png").write_text("secret")
    (root / "img/1.png").symlink_to("../../../../blobs/5f2c")
    (root / "img/2.png").symlink_to("../../../../../secret.png")
    (root / "img/3.png").symlink_to("../../../../blobs/gone")
    assert locate(root, "img/1.png") == (repository.resolve() / "blobs/5f2c", 5)
    with pytest.raises(UserError, match="2.png' leaves the dataset folder by a link"):
        locate(root, "img/2.png")
    with pytest.raises(UserError, match=r"'img/3.png' is missing: .*3.png is a link to .*gone, which is not there"):
        locate(root, "img/3.png")
    with pytest.raises(UserError, match="only paths inside it are read"):
        locate(root, "../../../blobs/5f2c")


@pytest.mark.parametrize(("there", "named"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_found_in_another_normalisation(root: Path, there: str, named: str) -> None:
    stored, asked = (unicodedata.normalize(form, "img/Caf\u00e9/\u00e9.png") for form in (there, named))
    (root / stored).parent.mkdir()
    (root / stored).write_text("1234")
    assert stored != asked and locate(root, asked) == (root.resolve() / stored, 4)
    with pytest.raises(UserError, match="is missing"):
        locate(root, asked.replace("Caf", "caf"))
