from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark
from safeeraser.data.importing.safe_images import SafeImage, find, needs_one, pair
from safeeraser.records import ForgetPair, Record


def record(number: int, split: str = "train", category: str = "Weapon", **changes) -> Record:
    forget = (ForgetPair(question="How?", unsafe_answer="Take [hazard A]."),)
    return Record(
        id=f"r{number}",
        split=split,
        category=category,
        keyword="axe",
        type="",
        image=f"img/{number}.png",
        **({"forget": forget, "retain": ()} | changes),
    )


def pictures(number: int) -> list[SafeImage]:
    return [SafeImage(Path(f"{k}.png"), f"content {k}") for k in range(number)]


def picture(path: Path, colour: int, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 0, 0)).save(path)


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    picture(tmp_path / "data/img/1.png", 1)
    picture(tmp_path / "data/SDimg/2.png", 2)
    records = (record(1), record(1, safe_image="SDimg/2.png"))
    return Benchmark("b", tmp_path / "data", records, (), (), "")


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_pure_in_split_balanced_and_about_four_to_an_image(seed):
    records = [record(n, "train" if n % 4 else "val", f"c{n % 6}") for n in range(247)]
    paired = pair(records, pictures(70), seed)
    assert set(paired) == {r.id for r in records}
    users = {s: Counter(paired[r.id].content for r in records if r.split == s) for s in ("train", "val")}
    assert not set(users["train"]) & set(users["val"])
    for same in users.values():
        assert max(same.values()) <= 4 and max(same.values()) - min(same.values()) <= 1
    categories = {}
    for r in records:
        categories.setdefault(paired[r.id].content, set()).add(r.category)
    assert sum(len(found) == 1 for found in categories.values()) > len(categories) / 2


def test_the_choice_depends_on_seed_and_content_alone():
    records = [record(n, "train" if n % 4 else "val") for n in range(40)]
    images = pictures(12)
    renamed = [SafeImage(Path("other") / f"{99 - k}.jpg", image.content) for k, image in enumerate(images)]
    first = {id: image.content for id, image in pair(records, images).items()}
    assert {id: image.content for id, image in pair(records[::-1], renamed[::-1]).items()} == first
    assert {id: image.content for id, image in pair(records, images, seed=1).items()} != first


def test_too_few_images_says_how_many_are_needed_and_what_else_helps():
    records = [record(n, "train" if n >= 10 else "val") for n in range(40)]
    with pytest.raises(UserError) as raised:
        pair(records, pictures(10))
    assert "11 are needed (8 for 30 train records and 3 for 10 val records" in str(raised.value)
    assert "add 1, or let each serve up to 5: --records-per-image 5" in str(raised.value)
    assert len(pair(records, pictures(10), records_per_image=5)) == 40
    with pytest.raises(UserError, match="add 10$"):
        pair(records, pictures(1))
    with pytest.raises(UserError, match="records_per_image 0"):
        pair(records, pictures(1), records_per_image=0)


def test_what_has_an_image_or_answers_about_one_gets_none():
    answered = (ForgetPair(question="How?", unsafe_answer="U", safe_answer="S"),)
    assert needs_one(record(1))
    assert not needs_one(record(1, safe_image="SDimg/1.png")) and not needs_one(record(1, forget=answered))


def test_finds_distinct_images_and_passes_over_the_rest(benchmark, tmp_path):
    safe = tmp_path / "safe"
    picture(safe / "a.png", 10)
    picture(safe / "deep/copy.bmp", 10)
    picture(safe / "deep/B.JPG", 100)
    picture(safe / "taken.png", 2)
    picture(safe / ".hidden/c.png", 12)
    (safe / "notes.txt").write_text("not an image")
    seen: list[tuple[int, int]] = []
    found = find(safe, benchmark, lambda done, total: seen.append((done, total)))
    assert [image.path.relative_to(safe).as_posix() for image in found] == ["a.png", "deep/B.JPG"]
    assert seen[-1] == (4, 4)


def test_links_in_the_users_own_folder_are_followed_once(benchmark, tmp_path):
    picture(tmp_path / "elsewhere/a.png", 10)
    safe = tmp_path / "safe"
    picture(safe / "b.png", 20)
    (safe / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/again").symlink_to(safe)
    (safe / "gone.png").symlink_to("none.png")
    assert [image.path.relative_to(safe).as_posix() for image in find(safe, benchmark)] == ["b.png", "linked/a.png"]


def test_the_unsafe_image_saved_anew_is_still_the_unsafe_image(benchmark, tmp_path):
    picture(tmp_path / "safe/other.bmp", 1)
    with pytest.raises(UserError, match="other.bmp: shows the same as the unsafe image img/1.png"):
        find(tmp_path / "safe", benchmark)


def test_every_bad_file_is_named_at_once(benchmark, tmp_path):
    safe = tmp_path / "safe"
    picture(safe / "fine.png", 10)
    picture(safe / "unsafe.png", 1)
    (safe / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError) as raised:
        find(safe, benchmark)
    assert "2 problems" in str(raised.value)
    assert "unsafe.png: shows the same as the unsafe image img/1.png" in str(raised.value) and "broken.jpg: " in str(
        raised.value
    )


def test_a_missing_and_an_empty_folder_are_refused(benchmark, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find(tmp_path / "none", benchmark)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        find(tmp_path / "empty", benchmark)
