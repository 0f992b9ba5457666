from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from safeeraser.metrics.utility import rouge_l_f

THEIRS = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
words = st.lists(st.sampled_from("running runs cats cat the Houses house's a1 über 猫 flies , -".split()), max_size=15)
texts = words.map(" ".join) | st.text()


@given(texts, texts)
def test_rouge_l_is_the_value_of_rouge_score(reference, answer):
    assert rouge_l_f(reference, answer) == THEIRS.score(target=reference, prediction=answer)["rougeL"].fmeasure
