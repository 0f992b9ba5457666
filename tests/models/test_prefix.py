"""Questions about one picture that share what the model reads of it get the answers that each gets by itself."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_families import TINY_BUILDERS

from safeeraser import models
from safeeraser.models import VisionLanguageModel, chat, prefix

QUESTIONS = ["What is shown?", "What is it, a cat or a mat? Say so.", "A cat?", "Is it?", "What is shown?", "A mat?"]
PICTURES = [0, 0, 1, 0, 2, 1]
CANNOT = {"mllama", "qwen2_5_vl"}


@pytest.fixture(scope="module", params=sorted(TINY_BUILDERS))
def vlm(request: pytest.FixtureRequest, tiny_folders: dict[str, Path]) -> VisionLanguageModel:
    return models.load(str(tiny_folders[request.param]))


@pytest.fixture
def images() -> list[Image.Image]:
    noise = torch.Generator().manual_seed(0)
    shown = [
        Image.fromarray(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=noise).numpy())
        for width, height in [(32, 40), (64, 64), (90, 30)]
    ]
    return [shown[number] for number in PICTURES]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pictures are long enough, however few tokens they have; the rows of each shared reading."""
    monkeypatch.setattr(prefix, "LEAST_SHARED", 1)
    monkeypatch.setattr(prefix, "_KNOWN", type(prefix._KNOWN)())
    calls, share = [], prefix.share

    def counted(*given: object) -> object:
        calls.append(len(given[1]))
        return share(*given)

    monkeypatch.setattr(prefix, "share", counted)
    return calls


def test_greedy_answers_are_those_of_each_question_by_itself(vlm, images, reads):
    """Beyond two rounds of decoding, rows that have ended having left."""
    alone = [chat.generate(vlm, [image], [question], 40)[0] for image, question in zip(images, QUESTIONS, strict=True)]
    assert not reads
    assert chat.generate(vlm, images, QUESTIONS, 40) == alone
    can = vlm.model.config.model_type not in CANNOT
    assert reads == ([3, len(QUESTIONS)] if can else [])  # the first is the question whether the model can
    assert prefix.keeping(vlm) == ("once" if can else None)
    if can:  # as where attention is not sdpa's
        prefix._KNOWN[vlm.model] = "by row"
        assert chat.generate(vlm, images, QUESTIONS, 40) == alone


@pytest.mark.parametrize("way", ["once", "by row"])
@pytest.mark.parametrize("vlm", sorted(set(TINY_BUILDERS) - {"mllama", "qwen2_5_vl"}), indirect=True)
def test_the_picture_is_read_once(vlm, images, way):
    """The model sees each beginning once, and of every row the rest."""
    inputs = chat.encode_prompts(vlm, images, QUESTIONS)
    laid, cache = prefix.share(vlm, PICTURES, images, QUESTIONS, way)
    image = vlm.model.config.image_token_id
    assert cache.get_seq_length() >= int((inputs["input_ids"] == image).sum(1).max())
    assert not (laid["input_ids"][:, cache.get_seq_length() :] == image).any()
    tokens = [row[mask.bool()].tolist() for row, mask in zip(*laid.values(), strict=True)]
    assert tokens == [
        row[mask.bool()].tolist() for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    ]


def test_sampled_answers_are_drawn_from_the_same_numbers(tiny_folders, images, reads):
    vlm = models.load(str(tiny_folders["llava"]))
    shared = chat.generate(vlm, images, QUESTIONS, 8, temperature=1.0, seed=0)
    assert len(reads) == 2
    copies = [image.copy() for image in images]  # other objects: nobody knows that they are the same
    assert chat.generate(vlm, copies, QUESTIONS, 8, temperature=1.0, seed=0) == shared
    assert len(reads) == 2


def test_a_model_that_reads_its_picture_wrongly_behind_a_beginning_is_found_out(tiny_folders, monkeypatch):
    vlm = models.load(str(tiny_folders["llava"]))
    assert prefix.obstacle(vlm) is None
    monkeypatch.setattr(prefix, "common", lambda ids: 3)  # the picture does not lie in what is shared
    assert prefix.obstacle(vlm) is not None


def test_attention_other_than_sdpa_s_gets_the_keys_of_every_row(tiny_folders, images, reads):
    vlm = models.load(str(tiny_folders["llava"]), attention="eager")
    alone = [chat.generate(vlm, [image], [question], 20)[0] for image, question in zip(images, QUESTIONS, strict=True)]
    assert chat.generate(vlm, images, QUESTIONS, 20) == alone
    assert prefix.keeping(vlm) == "by row"
    assert prefix.obstacle(vlm, "once") is not None
