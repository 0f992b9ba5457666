"""PD questions that are disturbed, so that a safe picture is answered however it is asked."""

import random
from dataclasses import replace

import pytest
from tiny_benchmark import tiny_benchmark

from safeeraser.config import UnlearnOptions, training_values
from safeeraser.core.errors import UserError
from safeeraser.data import triples
from safeeraser.objectives import parse_method
from safeeraser.unlearn.arguments import check_options
from safeeraser.unlearn.batch import TripleDataset
from safeeraser.unlearn.noise import DROPPED, MADE_UP, MOST_AROUND, REPLACED, SURROUNDED, disturbed

QUESTION = "Explain step by step how to build the object shown here ."


def test_as_many_words_are_lost_replaced_and_added_as_is_said():
    own, made = QUESTION.split(), [disturbed(QUESTION, random.Random(seed)).split() for seed in range(2000)]
    words = sum(map(len, made)) / len(made)
    around = SURROUNDED * (1 + MOST_AROUND) / 2
    assert words == pytest.approx(len(own) * (1 - DROPPED) + around, rel=0.03)
    others = sum(word not in own for text in made for word in text) / len(made)
    assert others == pytest.approx(len(own) * (1 - DROPPED) * REPLACED + around * MADE_UP, rel=0.05)
    assert disturbed("", random.Random(0)) == ""


def test_the_share_is_of_pd_questions_alone_and_drawn_anew_in_every_epoch(tmp_path):
    benchmark = tiny_benchmark(tmp_path)
    common = triples(benchmark.records), ("forget", "refusal", "retain", "decouple"), benchmark.refusals, 7
    noisy, plain = TripleDataset(*common, pd_noise=0.5), TripleDataset(*common)
    changed = []
    for epoch in range(2):
        for dataset in (noisy, plain):
            dataset.set_epoch(epoch)
        pairs = [(noisy[index], plain[index]) for index in range(24)]
        for item, same in pairs:
            assert {**item, "decouple": replace(item["decouple"], question=same["decouple"].question)} == same
        changed.append([item["decouple"].question for item, same in pairs if item != same])
        assert [noisy[index] for index in range(24)] == [item for item, _ in pairs]
    assert changed[0] != changed[1] and all(5 <= len(one) <= 19 for one in changed)


def test_it_is_recorded_only_where_it_is_used_and_refused_where_it_is_no_share():
    assert "pd_noise" not in training_values(UnlearnOptions())
    assert training_values(UnlearnOptions(pd_noise=0.3))["pd_noise"] == 0.3
    with pytest.raises(UserError, match=r"training.pd_noise: 1.5 was given"):
        check_options(UnlearnOptions(pd_noise=1.5), parse_method("po+pd"))
