import json
from collections import Counter
from pathlib import Path

import pytest

from safeeraser.core.errors import UserError
from safeeraser.data import Benchmark, load, queries, text_queries
from safeeraser.records import ForgetPair, Record, RetainPair, Split


def test_counts_of_both_protocols(small: Benchmark) -> None:
    """180 train and 60 val records with 4 forget, 4 retain and 4 decouple pairs; 300 probes."""
    once = {"efficacy": 720, "generality": 240, "retain": 240, "safe": 240, "specificity": 300}
    assert Counter(query.set for query in queries(small)) == once
    thrice = once | {"efficacy": 2160, "generality": 720}
    assert Counter(query.set for query in queries(small, "official")) == thrice


@pytest.mark.parametrize("protocol", ["greedy", "official"])
def test_ids_are_unique_and_stable(small: Benchmark, protocol: str) -> None:
    made = queries(small, protocol)  # type: ignore[arg-type]
    assert len({query.id for query in made}) == len(made)
    assert made == queries(load(small.root), protocol)  # type: ignore[arg-type]
    turned = Benchmark(small.name, small.root, small.records[::-1], small.refusals, small.probes, "")
    assert {query.id for query in queries(turned, protocol)} == {query.id for query in made}  # type: ignore[arg-type]


def test_first_official_sample_is_the_greedy_query(small: Benchmark) -> None:
    official = queries(small, "official")
    assert [query for query in official if query.sample == 0] == queries(small)
    assert Counter(query.sample for query in official if query.set == "efficacy") == {0: 720, 1: 720, 2: 720}


def test_what_is_asked_and_compared(small: Benchmark) -> None:
    records = {record.id: record for record in small.records}
    splits = {"efficacy": "train", "generality": "val", "retain": "val", "safe": "val"}
    for query in queries(small):
        if query.set == "specificity":
            assert (query.image, query.question, query.reference, query.group) in {
                (probe.image, probe.question, probe.answer, probe.kind) for probe in small.probes
            }
            continue
        record = records[query.record_id]
        assert record.split == splits[query.set] and query.category == record.category
        assert query.image == (record.safe_image if query.set == "safe" else record.image)
        if query.set == "retain":
            assert (query.group, query.question, query.reference) in {
                (pair.slot, pair.question, pair.answer) for pair in record.retain
            }
        else:
            answers = {
                pair.question: pair.safe_answer if query.set == "safe" else pair.unsafe_answer for pair in record.forget
            }
            assert query.reference == answers[query.question]


def test_safe_queries_know_unseen_concepts(small: Benchmark) -> None:
    seen = {record.safe_concept for record in small.split("train")}
    concepts = {record.id: record.safe_concept for record in small.split("val")}
    groups = [(query.group, concepts[query.record_id] in seen) for query in queries(small) if query.set == "safe"]
    assert set(groups) == {("seen", True), ("unseen", False)}
    unknown = tuple(record.model_copy(update={"safe_concept": None}) for record in small.records)
    made = queries(Benchmark("t", small.root, unknown, (), (), ""))
    assert {query.group for query in made if query.set == "safe"} == {""}


def test_seen_is_what_a_safe_image_of_train_shows_however_it_is_spelt() -> None:
    pair = ForgetPair(question="How?", unsafe_answer="[hazard]", safe_answer="Like this.")
    retain = RetainPair(slot="text1", question="What?", short_answer="A.", answer="A.")

    def made(split: Split, concept: str, safe_image: str | None = "s.png") -> Record:
        values = {"category": "Weapon", "keyword": "axe", "type": "", "image": "i.png", "safe_image": safe_image}
        return Record(id=split, split=split, safe_concept=concept, forget=(pair,), retain=(retain,), **values)

    def group(train: Record) -> str:
        records = (train, made("val", "teddy bear"))
        return next(q.group for q in queries(Benchmark("t", Path(), records, (), (), "")) if q.set == "safe")

    assert group(made("train", "Teddy  bear")) == "seen"
    assert group(made("train", "teddy bear", safe_image=None)) == "unseen"  # named, and shown nowhere
    assert group(made("train", "car")) == "unseen"


def test_records_without_safe_image_are_not_asked_about_it(small: Benchmark) -> None:
    bare = tuple(record.model_copy(update={"safe_image": None}) for record in small.records)
    made = queries(Benchmark("t", small.root, bare, (), (), ""))
    assert {query.set for query in made} == {"efficacy", "generality", "retain"}


def test_unknown_protocol(small: Benchmark) -> None:
    with pytest.raises(UserError, match="available: greedy, official"):
        queries(small, "beam")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entry", "field"), [({"question": "a?", "answers": [""]}, "answers.0"), ({"question": " "}, "question")]
)
def test_a_text_question_that_nothing_answers_is_refused(tmp_path, entry, field):
    """An empty accepted answer counted every answer as wrong, but for the empty one."""
    (tmp_path / "mine.json").write_text(json.dumps([{"question": "b?"}, entry]))
    with pytest.raises(UserError, match=rf"mine\.json, entry 2, {field}: "):
        text_queries(str(tmp_path / "mine.json"))
