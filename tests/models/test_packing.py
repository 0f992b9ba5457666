"""Packed rows are the rows: the contract of every family on its tiny model, pictures small and all."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_families import TINY_BUILDERS
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers.integrations import flex_attention as integration

from safeeraser import models
from safeeraser.config import LoraOptions
from safeeraser.core.errors import UserError
from safeeraser.models import VisionLanguageModel, adapters, chat, loading, packed_mask, packing
from safeeraser.models.packed_mask import PackedMask
from safeeraser.objectives import TERMS, TokenLogProbs

QUESTIONS = ["What is shown?", "What is it, a cat or a mat? Say so.", "A cat?", "Is it?", "What?", "What is shown?"]
ANSWERS = ["A cat.", "There is a cat on a mat, I cannot help.", "Sorry!", "It is a cat.", "A mat on a cat.", "No."]
PICTURES = [(32, 40), (64, 64), (90, 30)]
SIZES = [3, 1, 2]
"""Rows about each picture."""
PACKED = sorted(set(TINY_BUILDERS) - {"mllama"})


@pytest.fixture(params=PACKED)
def vlm(request: pytest.FixtureRequest, tiny_folders: dict[str, Path]) -> VisionLanguageModel:
    return with_adapter(models.load(str(tiny_folders[request.param])))


def with_adapter(vlm: VisionLanguageModel) -> VisionLanguageModel:
    """An adapter that is not at its beginning, so that the model and its reference differ."""
    torch.manual_seed(0)
    vlm = adapters.attach(vlm, LoraOptions(rank=2, alpha=2.0, dropout=0.0))
    for name, parameter in vlm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return vlm


def batch(vlm: VisionLanguageModel) -> tuple[list[Image.Image], tuple[dict[str, Tensor], Tensor]]:
    noise = torch.Generator().manual_seed(0)
    pictures = [
        Image.fromarray(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=noise).numpy())
        for width, height in PICTURES
    ]
    images = [picture for picture, size in zip(pictures, SIZES, strict=True) for _ in range(size)]
    return images, chat.encode_samples(vlm, images, QUESTIONS, ANSWERS, max_length=200)


def apart_and_packed(vlm: VisionLanguageModel) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    images, encoded = batch(vlm)
    yield encoded
    yield packing.pack(vlm, images, QUESTIONS, encoded, SIZES)


def gradients(vlm: VisionLanguageModel, encoded: tuple[dict[str, Tensor], Tensor]) -> Tensor:
    """Of a loss that reads log-probabilities, hidden states, and the distance from the reference's distributions."""
    vlm.model.zero_grad()
    with adapters.reference_mode(vlm.model):
        reference = chat.answer_log_probs(vlm.model, *encoded).logits
    found = chat.answer_log_probs(vlm.model, *encoded, layer=1)
    weights = torch.arange(1.0, len(ANSWERS) + 1)[:, None]  # rows in another order would give another loss
    rows = TokenLogProbs(found.answer, found.mask, None, found.logits, reference, tokens=found.tokens)
    kl = TERMS.get("kl")({"retain": rows})[:, None]
    loss = ((found.answer + found.hidden.square().mean(-1) + kl) * weights * found.mask).sum()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in vlm.model.parameters() if p.grad is not None])


def test_a_sequence_holds_each_picture_once_and_every_answer_and_no_padding(vlm):
    (inputs, labels), (packed, packed_labels) = apart_and_packed(vlm)
    assert packed["input_ids"].shape == packed_labels.shape == (1, packed["runs"].sum())
    assert torch.equal(packed_labels[packed_labels != chat.IGNORED], labels[labels != chat.IGNORED])
    image = getattr(vlm.model.config, "image_token_id", None)
    rows = inputs["input_ids"][[0, 3, 4]]
    assert (packed["input_ids"] == image).sum() == (rows == image).sum() > 0
    lengths = inputs["attention_mask"].sum(1)
    shared, rests = packed["runs"][:, 0], packed["runs"][:, 1:]
    assert torch.equal((shared[:, None] + rests)[rests > 0], lengths) and (rests > 0).sum(1).tolist() == SIZES


def test_packed_rows_have_the_log_probabilities_distributions_and_states_of_rows_one_by_one(vlm):
    with torch.no_grad():
        apart, packed = (chat.answer_log_probs(vlm.model, *encoded, layer=1) for encoded in apart_and_packed(vlm))
    assert torch.equal(apart.mask, packed.mask) and torch.equal(apart.tokens, packed.tokens)
    mask = apart.mask
    for name in ("answer", "hidden"):
        torch.testing.assert_close(getattr(packed, name)[mask], getattr(apart, name)[mask], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(packed.logits, apart.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mask", [PackedMask, lambda runs: on_gpu(runs)], ids=["cpu", "gpu"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_have_the_gradients_of_rows_one_by_one(vlm, checkpointing, mask, monkeypatch):
    monkeypatch.setattr(chat, "PackedMask", mask)
    if checkpointing:
        vlm.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        vlm.model.train()
    apart, packed = (gradients(vlm, encoded) for encoded in apart_and_packed(vlm))
    assert apart.abs().max() > 0
    assert (apart - packed).norm() / apart.norm() < 1e-4


def test_layers_that_fsdp_shards_and_whose_inputs_it_casts_read_the_mask(vlm):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        arithmetic = MixedPrecisionPolicy(param_dtype=torch.float32)  # asks every input for its type
        for layer in [*vlm.model.get_base_model().get_decoder().layers, vlm.model]:
            fully_shard(layer, mesh=init_device_mesh("cpu", (1,)), mp_policy=arithmetic)
        apart, packed = (gradients(vlm, encoded) for encoded in apart_and_packed(vlm))
    finally:
        torch.distributed.destroy_process_group()
    assert apart.norm() > 0 and (apart - packed).norm() / apart.norm() < 1e-4


def test_packed_rows_differ_by_rounding_in_bfloat16(vlm):
    exact, low = (models.load(vlm.name, dtype=dtype) for dtype in ("float32", "bfloat16"))
    with torch.no_grad():
        true = chat.answer_log_probs(exact.model, *batch(exact)[1]).answer
        apart, packed = (chat.answer_log_probs(low.model, *encoded).answer for encoded in apart_and_packed(low))
    assert (true - packed).abs().mean() < 1.5 * (true - apart).abs().mean()
    assert packing.obstacle(with_adapter(low), 200) is None


@pytest.mark.parametrize("autocast", [False, True])
def test_a_cpu_attends_in_fp32_what_is_in_bfloat16(autocast):
    mask, states = PackedMask(torch.tensor([[2, 1, 3]])), torch.randn(3, 1, 2, 6, 8).bfloat16()
    whole, low = (states.to(dtype).requires_grad_() for dtype in (torch.float32, torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = scaled_dot_product_attention(*low, mask)
    expected = scaled_dot_product_attention(*whole, mask)
    assert torch.equal(found, expected.bfloat16()) and found.dtype == torch.bfloat16
    (gradient,), (true,) = (torch.autograd.grad(of.sum(), states) for of, states in ((found, low), (expected, whole)))
    assert torch.equal(gradient, true.bfloat16())


def test_one_row_packed_is_that_row(vlm):
    images, _ = batch(vlm)
    encoded = chat.encode_samples(vlm, images[:1], QUESTIONS[:1], ANSWERS[:1], 200)
    packed = packing.pack(vlm, images[:1], QUESTIONS[:1], encoded, [1])
    with torch.no_grad():
        one, other = (chat.answer_log_probs(vlm.model, *rows).answer for rows in (encoded, packed))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_few_tokens_are_packed_where_the_model_is_large(tiny_folders, monkeypatch):
    vlm = models.load(str(tiny_folders["llava"]))
    monkeypatch.setattr(packing.prefix, "LEAST_SHARED", 10**6)
    assert not packing.pays(vlm)
    monkeypatch.setattr(packing, "LEAST_SAVED", sum(p.numel() for p in vlm.model.parameters()))
    assert packing.pays(vlm)


def test_a_family_says_whether_its_rows_can_be_packed(tiny_folders):
    reasons = {name: packing.obstacle(models.load(str(folder)), 200) for name, folder in tiny_folders.items()}
    assert reasons.pop("mllama") == "it reads cross_attention_mask beside the attention mask"
    assert set(reasons.values()) == {None}


def test_a_model_whose_attention_takes_no_such_mask_is_not_packed(tiny_folders):
    eager = models.load(str(tiny_folders["llava"]), attention="eager")
    assert "attention is eager" in packing.obstacle(eager, 200)


def test_a_model_that_mixes_rows_up_is_found_out(tiny_folders, monkeypatch):
    vlm = models.load(str(tiny_folders["llava"]))
    monkeypatch.setattr(chat, "_with_mask", lambda _, inputs: {k: v for k, v in inputs.items() if k != "runs"})
    assert "log-probabilities of packed rows differ" in packing.obstacle(vlm, 200)


def test_a_model_that_does_more_with_its_mask_than_attend_is_not_packed(tiny_folders, monkeypatch):
    vlm = models.load(str(tiny_folders["llava"]))
    monkeypatch.setattr(chat, "_with_mask", lambda _, inputs: with_mask(inputs, lambda mask: mask[..., :-1]))
    assert packing.obstacle(vlm, 200).startswith("TypeError: the mask of packed rows can be read by sdpa alone")
    monkeypatch.setattr(chat, "_with_mask", lambda _, inputs: with_mask(inputs, lambda mask: mask.to("cpu")))
    assert packing.obstacle(vlm, 200) is None


def with_mask(inputs, change):
    made = {key: value for key, value in inputs.items() if key != "runs"}
    return made | ({"attention_mask": change(PackedMask(inputs["runs"]))} if "runs" in inputs else {})


@pytest.fixture
def flex(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention on a CPU: not compiled, for compiling takes a minute, and with the gradient that torch has of it.

    Torch refuses a gradient on a CPU as it has no kernel there; without one it is computed the same way on any device.
    """
    monkeypatch.setattr(loading, "_require", lambda *_: None)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)
    plain = flex_attention.flex_attention
    monkeypatch.setattr(
        integration, "compile_friendly_flex_attention", lambda *qkv, training=False, **given: plain(*qkv, **given)
    )


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", sorted({*PACKED} - {"qwen2_5_vl"}))
def test_packed_rows_under_flex_attention_are_the_rows_under_sdpa(name, tiny_folders, flex):
    """Gradients and what they are of, in the language model alone: the vision tower's attention stays as it is."""
    apart, packed = (
        with_adapter(models.load(str(tiny_folders[name]), attention=a)) for a in ("sdpa", "flex_attention")
    )
    config = packed.model.config
    assert (config.text_config._attn_implementation, config.vision_config._attn_implementation) == (
        "flex_attention",
        "sdpa",
    )
    expected = gradients(apart, next(apart_and_packed(apart)))
    found = gradients(packed, [*apart_and_packed(packed)][1])
    assert expected.norm() > 0 and (expected - found).norm() / expected.norm() < 1e-4
    assert packing.obstacle(packed, 200, compare=False) is None


def test_a_family_without_flex_attention_is_refused_with_it(tiny_folders, flex):
    with pytest.raises(UserError, match="'flex_attention' cannot be had for model .*does not support"):
        models.load(str(tiny_folders["qwen2_5_vl"]), attention="flex_attention")


def test_the_block_mask_hides_what_the_packed_mask_hides():
    runs, states = torch.tensor([[3, 2, 0, 4], [0, 1, 3, 0]]), torch.randn(1, 2, 13, 8)
    together = (mask(runs) for mask in (packed_mask.PackedMask, packed_mask.block_mask))
    parts = scaled_dot_product_attention(states, states, states, next(together))
    torch.testing.assert_close(flex_attention.flex_attention(states, states, states, block_mask=next(together)), parts)


def on_gpu(runs: Tensor) -> PackedMask:
    """The mask as it is on a device where a call takes longer to start than to compute."""
    mask = PackedMask(runs)
    mask.by_image = packed_mask.ByImage(mask.runs, "cpu")
    return mask


def test_attention_in_parts_or_by_image_is_that_under_the_whole_mask():
    """Two pictures, the second without anything shared; grouped keys, a scale, gradients; a mask by its attributes."""
    runs = [[3, 2, 4], [0, 1, 3]]
    number = [(picture, row) for picture, of in enumerate(runs) for row, size in enumerate(of) for _ in range(size)]
    seen = torch.tensor([[p == q and s in (0, r) for q, s in number] for p, r in number]).tril()
    found = []
    for mask in (PackedMask(torch.tensor(runs)), on_gpu(torch.tensor(runs)), seen):
        query, key, value = (
            torch.randn(1, heads, len(seen), 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
            for heads in (4, 2, 2)
        )
        out = scaled_dot_product_attention(query, key, value, mask, scale=0.5, enable_gqa=True)
        weights = torch.linspace(-1, 1, out.numel()).view_as(out)
        found.append((out, *torch.autograd.grad((out * weights).sum(), (query, key, value))))
    in_parts, by_image, whole = found
    torch.testing.assert_close(in_parts, whole)
    torch.testing.assert_close(by_image, whole)
    mask = PackedMask(torch.tensor(runs))
    assert (mask.shape, mask.dtype, mask.requires_grad) == ((1, 1, len(seen), len(seen)), torch.bool, False)
    with pytest.raises(TypeError, match="sdpa alone"):
        mask.logical_not()


def test_a_layer_that_is_checkpointed_keeps_nothing_of_its_attention():
    made = []

    def layer(given):
        states = given * 2
        made.append(weakref.ref(states))
        return scaled_dot_product_attention(states, states, states, PackedMask(torch.tensor([[3, 2, 4]])))

    given = torch.randn(1, 2, 9, 8, requires_grad=True)
    out = checkpoint(layer, given, use_reentrant=False)
    gc.collect()
    assert made[0]() is None and out.requires_grad
    out.sum().backward()
    assert len(made) == 2


def test_a_picture_of_many_rows_makes_equal_groups():
    pictures = ["a", "b"] + ["a"] * 17
    assert list(map(len, packing.groups(pictures))) == [9, 9, 1]
    assert packing.groups(["a", "b", "a", "a"], least=3) == [[1], [0, 3], [2]]
