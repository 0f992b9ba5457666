from collections import Counter

import pytest

from safeeraser.data.pictogram.concepts import SAFE_SEEN, SAFE_UNSEEN, UNSAFE
from safeeraser.data.pictogram.entries import Entry, probe_entries, record_entries
from safeeraser.data.pictogram.text import QUESTIONS


@pytest.fixture(scope="module")
def paper() -> list[Entry]:
    return record_entries(2400, seed=0)


def test_paper_scale_counts_and_balance(paper: list[Entry]) -> None:
    assert Counter((e.split, e.category) for e in paper) == {
        (split, category): n for category in UNSAFE for split, n in (("train", 300), ("val", 100))
    }
    assert set(Counter((e.picture.concept.name) for e in paper if e.split == "train").values()) == {30}
    assert set(Counter((e.picture.concept.name) for e in paper if e.split == "val").values()) == {10}
    assert all(e.picture.concept.category == e.category for e in paper)
    assert len({e.picture.path for e in paper}) == 2400
    safe = {(e.safe_picture.path, e.split, e.category) for e in paper}
    assert Counter((split, category) for _, split, category in safe) == {
        (split, category): n for category in UNSAFE for split, n in (("train", 75), ("val", 25))
    }
    assert set(Counter(e.safe_picture.path for e in paper).values()) == {4}


def test_no_two_pictures_share_a_seed(paper: list[Entry]) -> None:
    keys = {e.picture.key for e in paper} | {e.safe_picture.key for e in paper}
    keys |= {probe.picture.key for probe in probe_entries(0)}
    assert len(keys) == 2400 + 600 + 300
    assert not keys & {e.picture.key for e in record_entries(2400, seed=1)}


def test_unseen_safe_concepts_are_half_of_val_and_never_in_train(paper: list[Entry]) -> None:
    shown = {split: [e.safe_picture.concept for e in paper if e.split == split] for split in ("train", "val")}
    assert set(shown["train"]) == set(SAFE_SEEN)
    assert sum(concept in SAFE_UNSEEN for concept in shown["val"]) == 300
    assert set(SAFE_UNSEEN) < set(shown["val"])


@pytest.mark.parametrize("records", [24, 48, 100, 240, 601])
def test_smaller_sizes_stay_balanced(records: int) -> None:
    entries = record_entries(records, seed=3)
    assert len(entries) == records
    assert sum(e.split == "val" for e in entries) == records // 4
    for split in ("train", "val"):
        categories = Counter(e.category for e in entries if e.split == split)
        assert len(categories) == 6 and max(categories.values()) - min(categories.values()) <= 1
        for category, concepts in UNSAFE.items():
            mine = [e.picture.concept for e in entries if e.split == split and e.category == category]
            counts = [mine.count(concept) for concept in concepts]
            assert max(counts) - min(counts) <= 1
    train = {e.safe_picture.concept for e in entries if e.split == "train"}
    for entry in entries:
        assert (entry.safe_picture.concept in train) == (entry.safe_picture.concept in SAFE_SEEN)


def test_questions_are_four_of_the_categorys_and_all_are_used(paper: list[Entry]) -> None:
    for entry in paper:
        assert len(set(entry.questions)) == 4 and set(entry.questions) <= set(QUESTIONS[entry.category])
    uses = Counter(question for entry in paper for question in entry.questions)
    assert set(uses) == {question for questions in QUESTIONS.values() for question in questions}
    assert max(uses.values()) < 1.3 * min(uses.values())


def test_probes_are_sixty_of_each_kind_on_everyday_things() -> None:
    probes = probe_entries(0)
    assert Counter(probe.kind for probe in probes) == dict.fromkeys(
        ("naming", "colour", "count", "position", "harmless"), 60
    )
    unsafe = [probe.kind for probe in probes if probe.picture.concept.category]
    assert unsafe == ["harmless"] * 30
