"""Levels of the contract that need weights: a type's tiny model with its real processor, from forward to packed."""

import re
import tempfile
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tiny_config import remade, shrunk
from tiny_families import TINY_BUILDERS
from tiny_processor import NoProcessor, processor_for, with_ids
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, GenerationConfig

from safeeraser import models
from safeeraser.config import LoraOptions
from safeeraser.data import Benchmark, Triple
from safeeraser.data.images import ImageCache
from safeeraser.models import VisionLanguageModel, adapters, chat, packing
from safeeraser.models.families import ENCODER_DECODER, is_encoder_decoder
from safeeraser.objectives import parse_method
from safeeraser.unlearn.batch import RowCollator, TripleDataset, answer_log_probs, select

LEVELS = ("forward", "generate", "base", "saved", "packed", "step")
QUESTIONS = ["What is shown?", "A cat? Say so."]
ANSWERS = ["A cat.", "There is a mat."]
NEW_TOKENS = 20
"""More than a round of ``chat.generate``."""


UNREACHED = {"ernie4_5_vl_moe": r"layers\.1\.mlp\.vision_moe"}
"""What no answer follows from: through the last layer's experts for images nothing but images passes."""


class Broken(Exception):
    """A level that a type does not pass, with the reason."""


def tiny(kind: str, needed: dict[str, Any], folder: Path) -> VisionLanguageModel:
    """A tiny random model of a type with its real processor.

    Raises:
        NoProcessor: If that cannot be built without files.
    """
    if kind in TINY_BUILDERS:
        return models.load(str(TINY_BUILDERS[kind](folder)))
    config = shrunk(kind, needed)
    processor = processor_for(kind, config)
    config = remade(config, with_ids(config, processor))
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    tokenizer = processor.tokenizer
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    return VisionLanguageModel(kind, model, processor, fingerprint=kind)


def levels(kind: str, needed: dict[str, Any]) -> dict[str, str]:
    """What a type passes of ``LEVELS``: "ok" or why not; one that is built on a level that fails is not there."""
    found: dict[str, str] = {}
    if is_encoder_decoder(AutoConfig.for_model(kind, **needed)):
        return {"forward": ENCODER_DECODER}
    with tempfile.TemporaryDirectory() as folder:
        try:
            vlm = tiny(kind, needed, Path(folder) / "model")
        except NoProcessor as error:
            return {"forward": str(error)}
        except Exception as error:
            return {"forward": _reason(error)}
        for level, result in _walked(vlm, Path(folder)):
            found[level] = result
    return found


def _walked(vlm: VisionLanguageModel, folder: Path) -> Iterator[tuple[str, str]]:
    result = _tried(lambda: forward(vlm))
    yield "forward", result
    if result != "ok":
        return
    yield "generate", _tried(lambda: generate(vlm))
    base = deepcopy(vlm.model)
    expected = distribution(vlm)
    torch.manual_seed(1)
    adapted = adapters.attach(vlm, LoraOptions(rank=2, alpha=2.0, dropout=0.0))
    with torch.no_grad():
        for parameter in adapted.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    adapted.model.eval()
    yield "base", _tried(lambda: off(adapted, expected))
    yield "saved", _tried(lambda: saved(adapted, replace(vlm, model=base), folder / "adapter"))
    yield "packed", _tried(lambda: packed(adapted))
    yield "step", _tried(lambda: step(adapted, folder))


def _tried(level: Callable[[], None]) -> str:
    try:
        level()
    except Broken as broken:
        return str(broken)
    except Exception as error:
        return _reason(error)
    return "ok"


def _reason(error: Exception) -> str:
    """An error in a line, with whose code raised it."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    text = " ".join(f"{type(error).__name__}: {error}".split())[:110]
    return f"in transformers: {text}" if "site-packages" in frames[-1] else text


def encoded(vlm: VisionLanguageModel) -> tuple[dict[str, Tensor], Tensor]:
    """Two rows about pictures of two sizes."""
    return chat.encode_samples(vlm, pictures(), QUESTIONS, ANSWERS, 200)


def pictures() -> list[Image.Image]:
    """Noise in two sizes."""
    noise = torch.Generator().manual_seed(0)
    return [
        Image.fromarray(torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=noise).numpy())
        for width, height in ((40, 32), (64, 64))
    ]


def distribution(vlm: VisionLanguageModel) -> Tensor:
    """Log-probabilities of the whole vocabulary at the answers."""
    with torch.no_grad():
        return torch.cat(chat.answer_log_probs(vlm.model, *encoded(vlm)).logits).log_softmax(-1)


def forward(vlm: VisionLanguageModel) -> None:
    """A finite loss of our labels, and other log-probabilities for another picture."""
    inputs, labels = encoded(vlm)
    with torch.no_grad():
        loss = vlm.model(**inputs, labels=labels).loss
    if loss is None or not loss.isfinite():
        raise Broken(f"the loss is {loss}")


def generate(vlm: VisionLanguageModel) -> None:
    """Greedy answers are those of plain transformers."""
    tokenizer = vlm.processor.tokenizer
    inputs = chat.encode_prompts(vlm, pictures(), QUESTIONS)
    ends = sorted({chat.turn(vlm).end, tokenizer.eos_token_id})
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    with torch.no_grad():
        output = vlm.model.generate(**inputs, generation_config=config)
    new = output[:, inputs["input_ids"].shape[1] :]
    plain = [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
    ours = [said.answer for said in chat.generate(vlm, pictures(), QUESTIONS, NEW_TOKENS)]
    if ours != plain:
        raise Broken(f"{ours} and plainly {plain}")


def off(adapted: VisionLanguageModel, expected: Tensor) -> None:
    """With its adapter off a model is its base, but for rounding; with it on it is not."""
    if torch.allclose(distribution(adapted), expected):
        raise Broken("the adapter changes nothing")
    with adapters.reference_mode(adapted.model):
        _same("with its adapter off", distribution(adapted), expected, 1e-5)


def saved(adapted: VisionLanguageModel, base: VisionLanguageModel, folder: Path) -> None:
    """An adapter that was saved and loaded is the same, and so is one that is merged."""
    expected = distribution(adapted)
    adapters.save(adapted, folder, {})
    loaded = adapters.load(base, folder)
    _same("loaded again", distribution(loaded), expected, 1e-5)
    _same("merged", distribution(models.merge(loaded)), expected, 1e-3)


def packed(adapted: VisionLanguageModel) -> None:
    """Rows about one picture are the same in one sequence, or it is said why they are not put into one."""
    if (obstacle := packing.obstacle(adapted, 200)) is not None:
        raise Broken(f"ok, not packed: {obstacle}"[:130])
    image = pictures()[0]
    rows = chat.encode_samples(adapted, [image] * 2, QUESTIONS, ANSWERS, 200)
    with torch.no_grad():
        apart = chat.answer_log_probs(adapted.model, *rows)
        together = chat.answer_log_probs(adapted.model, *packing.pack(adapted, [image] * 2, QUESTIONS, rows, [2]))
    _same("packed", together.answer[apart.mask], apart.answer[apart.mask], 1e-3)


def _same(when: str, found: Tensor, expected: Tensor, rounding: float) -> None:
    if not (difference := float((found - expected).abs().max())) <= rounding:
        raise Broken(f"{when} log-probabilities differ by {difference:.2g}")


def step(adapted: VisionLanguageModel, folder: Path) -> None:
    """A step of PO+PD moves every LoRA and the projector, and nothing else."""
    for name, picture in zip(("one", "safe"), pictures(), strict=True):
        picture.save(folder / f"{name}.png")
    triples = [
        Triple(f"r{n}", n, "one.png", "safe.png", QUESTIONS[n], ANSWERS[n], "What?", "A thing.", "It is a cup.")
        for n in range(2)
    ]
    method = parse_method("po+pd")
    dataset = TripleDataset(triples, method.rows, ["Sorry, I cannot."], seed=0)
    collator = RowCollator(adapted, ImageCache(Benchmark("tiny", folder, (), (), (), "")), method, 200)
    batch = collator([dataset[0], dataset[1]])
    model = adapted.model.train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    policy = answer_log_probs(model, batch, method.needs)
    reference = None
    if "reference" in batch:
        with adapters.reference_mode(model):
            reference = answer_log_probs(model, batch["reference"], method.needs)
    loss, _ = method.loss({rows: select(rows, batch, policy, reference) for rows in method.rows}, {}, 0)
    loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    torch.optim.SGD(trained.values(), lr=1.0).step()
    after = dict(model.named_parameters())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    if stray := sorted(moved - trained.keys()):
        raise Broken(f"moved, too: {stray[:2]}")
    if not all(p.isfinite().all() for p in trained.values()):
        raise Broken("not finite after a step")
    still = sorted({name.split(".lora_")[0] for name in trained if ".lora_" in name}
                   - {name.split(".lora_")[0] for name in moved})  # fmt: skip
    still = [name for name in still if not re.search(UNREACHED.get(adapted.name, "$^"), name)]
    projector = [name for name in trained if ".modules_to_save." in name]
    has_none = adapters.projector(adapted) == "frozen"
    if still or not (has_none or any(name in moved for name in projector)):
        raise Broken(f"not moved: {', '.join(still[:2]) or 'the projector'} ({len(still)} of LoRA's layers)")
