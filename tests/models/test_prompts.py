"""What an answer's tokens get beside their ids is what the model's own generation would give them."""

import pytest
import torch
from any_model import built

from safeeraser.models import VisionLanguageModel, prompts


@pytest.mark.parametrize(
    ("kind", "key", "given", "expected"),
    [
        # the prompt is 0, and 1 begins what is masked causally
        ("paligemma", "token_type_ids", [[0, 0, 0]], [[1]]),
        # 1 is an image, of which no answer has any
        ("gemma3", "token_type_ids", [[1, 1, 0]], [[0]]),
        ("qwen3_vl", "mm_token_type_ids", [[0, 1, 1]], [[0]]),
        # the images that the last token may look at, two of three
        ("mllama", "cross_attention_mask", [[[[0]], [[1]], [[1]]]], [[[[1]]]]),
        # one line each for time, height and width
        ("qwen3_vl", "position_ids", [[[0, 1, 2]], [[0, 1, 4]], [[0, 1, 6]]], [[[3, 5, 7]]]),
    ],
)
def test_the_next_token_gets_what_generation_gives_it(kind, key, given, expected, monkeypatch):
    monkeypatch.setattr(prompts, "token_inputs", lambda vlm: (key,))
    ids = torch.zeros(1, 3, dtype=torch.long)
    prompt = {"input_ids": ids, "attention_mask": ids + 1, key: torch.tensor(given)}
    entries = prompts.next_entries(VisionLanguageModel(kind, built(kind), None), prompt)
    assert entries[key].tolist() == expected
