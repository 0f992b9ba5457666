"""Pre-training of SmolLLaVA: the projector learns to say what is seen in words, then the language model to look.

On CUDA it computes in fp32 with TF32 matrix products; on a CPU in fp32.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from safeeraser.core import files
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import bar
from safeeraser.models import VisionLanguageModel, parts
from safeeraser.models.lean_lora import make_lean
from safeeraser.models.mini_llava.pictures import LOOKING, Mixture, OpenBar, Pictures, Questions, Sample, draw_both
from safeeraser.models.mini_llava.pretrain import FrozenTower, patch_tokens, whiten_projector
from safeeraser.models.smol_llava import base, model, replay
from safeeraser.models.smol_llava.align import align, cosine, set_rates
from safeeraser.models.smol_llava.rows import Encoder, collate

MADE_OF, REPLAYED, STATE, TRAINED = "pretrain.json", ".replayed.pt", ".state.pt", "trained"
LOG = "losses.csv"
"""Every ten steps: step, seconds, loss about images, divergence from the base model without one."""
SAVE_EVERY = 120.0
"""Seconds between two states that an interrupted run goes on from."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a pre-training."""

    seed: int = 0
    steps: int = 700
    batch: int = 16
    """Questions about images a step."""
    max_seconds: float = 0
    """Time budget of the steps, after which the learning rate has fallen to 0, done or not; 0: none."""
    pictures: int = 90
    """Images of each concept, and a third as many with small objects."""
    replayed: int = 900
    """Plain questions that the base model answers beforehand."""
    replay_tokens: int = 48
    align_steps: int = 600
    """Steps of the projector alone."""
    align_batch: int = 128
    rank: int = 20
    """Of the change of each linear layer; with 20, what ships has 13 MB."""
    lora_rate: float = 7e-4
    projector_rate: float = 5e-4
    replay_share: float = 1 / 3
    """Replayed questions a step, as a share of ``batch``."""
    replay_weight: float = 6.0
    head_weight: float = 2.0
    """Extra weight of an answer's first tokens, which decide its form."""
    head_tokens: int = 3
    looking_share: float = 0.05
    """Share of the steps, at the start, whose questions are those of ``LOOKING``; then of the mixture."""
    mixture: Mixture = field(default_factory=Mixture)


def run(out: Path, recipe: Recipe, device: str = "auto", open_bar: OpenBar = bar) -> Path:
    """Pre-train from the base model; the same call in the same folder goes on where an interrupted one stopped.

    The same recipe gives the same weights on one machine, but for a time budget.

    Args:
        out: Folder: the checkpoint, and in ``trained`` the file that ships.
        recipe: Settings.
        device: 'auto', 'cpu' or 'cuda'.
        open_bar: Opens a progress bar for each stage.

    Returns:
        ``out``.

    Raises:
        UserError: If the base model is not installed, a setting is unusable, or the folder holds something else.
    """
    from safeeraser.config import ModelOptions
    from safeeraser.models import loading

    for name in ("steps", "batch", "pictures", "replayed"):
        if getattr(recipe, name) < 1:
            raise UserError(f"--{name.replace('batch', 'batch_size')} {getattr(recipe, name)}: it must be at least 1")
    place, file = loading.check(ModelOptions(device=device)), base.find_file()
    if (out / "config.json").is_file() and not (out / MADE_OF).is_file():
        raise UserError(f"{out} holds another checkpoint: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    files.claim(out / MADE_OF, {"base": file.name, **asdict(recipe)})
    if (out / TRAINED / model.TRAINED.name).is_file() and (out / "config.json").is_file():
        return out
    language = base.load(file)
    with torch.random.fork_rng(), _tf32():
        torch.manual_seed(recipe.seed)
        tensors = train(language, out, recipe, place, open_bar)
    finish(tensors, out, file)
    return out


def finish(tensors: Mapping[str, Tensor], out: Path, file: Path) -> None:
    """Write what was trained and the checkpoint, then remove what only an interrupted run needs."""
    from safetensors.torch import save_file

    (out / TRAINED).mkdir(exist_ok=True)
    trained = out / TRAINED / model.TRAINED.name
    save_file(dict(tensors), f"{trained}.tmp", metadata={"format": "pt"})
    os.replace(f"{trained}.tmp", trained)
    model.write(base.load(file), trained, out / ".checkpoint")
    for path in sorted((out / ".checkpoint").iterdir(), key=lambda path: path.name == "config.json"):
        os.replace(path, out / path.name)  # config.json last: with it the checkpoint is whole
    (out / ".checkpoint").rmdir()
    for name in (REPLAYED, STATE):
        (out / name).unlink(missing_ok=True)


def train(language: tuple[Any, Any], out: Path, recipe: Recipe, device: str, open_bar: OpenBar) -> dict[str, Tensor]:
    """Train projector and LoRA layers; ``language`` is changed in place.

    ``out`` is for what an interrupted run goes on from. Returns what was trained, as it ships.
    """
    built, processor = model.build(*language)
    vlm = VisionLanguageModel(model.NAME, built.to(device), processor)
    replayed = _replayed(vlm, out / REPLAYED, recipe, open_bar)
    wanted = recipe.pictures, max(2, recipe.pictures // 3)
    pictures = draw_both("draw pictures", "smol", recipe.seed, wanted, recipe.steps * recipe.batch, 16, open_bar)
    with torch.no_grad():
        chunks = [chunk for part in pictures for chunk in torch.split(part.pixels, 1024)]
        seen = torch.cat([patch_tokens(built.model.vision_tower, chunk.to(device)) for chunk in chunks])
    built.requires_grad_(False)
    whiten_projector(built.model.multi_modal_projector, seen)
    align(vlm, seen, pictures, recipe.align_steps, recipe.align_batch, open_bar)
    _attach(built, recipe)
    built.model.vision_tower = FrozenTower()
    _teach(vlm, seen, pictures, replayed, out / STATE, recipe, open_bar)
    return model.trained_tensors(built)


def _replayed(vlm: VisionLanguageModel, path: Path, recipe: Recipe, open_bar: OpenBar) -> list[replay.Replayed]:
    """The base model's answers, from the file where an earlier call has asked for them."""
    if not path.is_file():
        asked = replay.questions(recipe.replayed, recipe.seed)
        with open_bar("the base model answers", len(asked)) as progress:
            made = replay.answer(vlm, asked, recipe.replay_tokens, progress)
        _save(made, path)
    kept: list[replay.Replayed] = torch.load(path, weights_only=False)
    return kept


def _attach(built: Any, recipe: Recipe) -> None:
    """Put LoRA layers into the language model, in place."""
    from peft import LoraConfig, inject_adapter_in_model

    target = parts(built).pattern([name for name, _ in built.named_modules()])
    inject_adapter_in_model(LoraConfig(r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules=target), built)
    make_lean(built)
    built.model.multi_modal_projector.requires_grad_(True)  # which PEFT has frozen with all that is no adapter


def _teach(
    vlm: VisionLanguageModel,
    seen: Tensor,
    pictures: tuple[Pictures, Pictures],
    replayed: Sequence[replay.Replayed],
    path: Path,
    recipe: Recipe,
    open_bar: OpenBar,
) -> None:
    """Teach projector and LoRA layers to answer, while answers without an image stay what they were."""
    trained = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}
    groups = [
        {"params": [p for name, p in trained.items() if (".lora_" in name) is is_lora]} for is_lora in (True, False)
    ]
    rates = [recipe.lora_rate, recipe.projector_rate]
    optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, fused=seen.is_cuda)
    first, before = _restore(path, trained, optimizer)
    rng = random.Random()
    questions, encoder = Questions(*pictures, rng), Encoder(vlm)
    vlm.model.train()
    started = saved = time.monotonic()
    with open_bar("language model", recipe.steps) as progress:
        for index in range(first, recipe.steps):
            elapsed = before + time.monotonic() - started
            done = max(index / recipe.steps, elapsed / recipe.max_seconds if recipe.max_seconds else 0)
            if done >= 1:
                break
            rng.seed(f"{recipe.seed}/smol/{index}")  # what is asked depends on the step alone
            mixture = LOOKING if done < recipe.looking_share else recipe.mixture
            samples = [questions.draw(mixture) for _ in range(recipe.batch)]
            again = rng.choices(replayed, k=max(1, round(recipe.replay_share * recipe.batch)))
            losses = _losses(vlm, encoder, samples, seen, again, recipe)
            torch.autograd.backward(losses[0] + recipe.replay_weight * losses[1])
            nn.utils.clip_grad_norm_(trained.values(), 1.0)
            set_rates(optimizer, rates, min(1, (index + 1) / max(10, 0.03 * recipe.steps)) * cosine(done))
            optimizer.step()
            optimizer.zero_grad()
            if index % 10 == 9 or index + 1 == recipe.steps:
                loss, apart = (value.item() for value in losses)
                progress(index + 1, recipe.steps, note=f"loss {loss:.2f}, replay {apart:.3f}")  # type: ignore[call-arg]
                with open(path.with_name(LOG), "a", encoding="utf-8") as log:
                    log.write(f"{index + 1},{elapsed:.1f},{loss:.4f},{apart:.4f}\n")
            if time.monotonic() - saved > SAVE_EVERY:
                _save((index + 1, elapsed, trained, optimizer.state_dict()), path)
                saved = time.monotonic()
    vlm.model.eval()


def _losses(
    vlm: VisionLanguageModel,
    encoder: Encoder,
    samples: Sequence[Sample],
    seen: Tensor,
    again: Sequence[replay.Replayed],
    recipe: Recipe,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of answers about images, and divergence from the base model's answers without one."""
    rows = encoder.rows([(sample.question, sample.answer) for sample in samples], shown=True)
    shown = sum(row.answer_length for row in rows)
    batch = collate([*rows, *(item.row for item in again)], vlm.processor.tokenizer.pad_token_id, seen.device)
    pixels = seen[torch.tensor([sample.picture for sample in samples]).to(seen.device)]
    hidden = vlm.model.model(**batch.inputs, pixel_values=pixels, use_cache=False).last_hidden_state.flatten(0, 1)
    log_probs = vlm.model.lm_head(hidden[batch.places]).float().log_softmax(-1)
    answers = log_probs[:shown].gather(1, batch.targets[:shown, None])[:, 0]
    weights = 1 + recipe.head_weight * (batch.steps[:shown] < recipe.head_tokens)
    tokens, wanted = (
        torch.cat([getattr(item, key) for item in again]).to(seen.device) for key in ("tokens", "log_probs")
    )
    apart = (wanted.exp() * (wanted - log_probs[shown:].gather(1, tokens))).sum(1)
    return -(answers * weights).sum() / weights.sum(), apart.mean()


def _restore(path: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Put the state of an interrupted run back; the next step, and the seconds that were used."""
    if not path.is_file():
        return 0, 0.0
    step, seconds, values, state = torch.load(path, map_location=next(iter(trained.values())).device)
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(values[name])
    optimizer.load_state_dict(state)
    return int(step), float(seconds)


def _save(value: Any, path: Path) -> None:
    with files.atomic(path, "wb") as file:
        torch.save(value, file)


@contextmanager
def _tf32() -> Iterator[None]:
    """Let CUDA multiply fp32 matrices in TF32, ten bits of mantissa, while the block runs."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
