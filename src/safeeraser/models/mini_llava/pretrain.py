"""Pre-training of MiniLLaVA: the tower learns to see, is frozen, then projector and language model learn to answer."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from safeeraser.data.pictogram.render import SIZE
from safeeraser.models import VisionLanguageModel, chat
from safeeraser.models.mini_llava.model import PATCH, VISION_WIDTH, build
from safeeraser.models.mini_llava.muon import Muon
from safeeraser.models.mini_llava.pictures import (
    LABELS,
    LOOKING,
    Mixture,
    OpenBar,
    Pictures,
    Questions,
    draw_both,
    words,
)

Step = Callable[[int], None]
"""Updates the weights from their gradients, then clears these; takes the number of the step."""


@dataclass(frozen=True)
class Recipe:
    """The settings that the shipped weights were made with."""

    tower_steps: int = 3000
    language_steps: int = 1500
    tower_pictures: int = 375
    """Images of each concept for the tower, small objects not counted."""
    language_pictures: int = 120
    probe_pictures: int = 60
    """Images of each concept with small objects, for either stage."""
    tower_batch: int = 64
    tower_probes: int = 8
    """Of each tower batch: images with small objects."""
    language_batch: int = 32
    muon_rate: float = 0.02
    tower_adam_rate: float = 2e-3
    language_adam_rate: float = 4e-3
    head_weight: float = 3.0
    """Extra weight of an answer's first tokens, which decide its form."""
    head_tokens: int = 3
    label_weights: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(LABELS, 0.2) | {"concept": 1.0, "kind": 0.3, "unsafe": 0.3}
    )
    """Weights of what the mean of the patch tokens must tell."""
    patch_weights: dict[str, float] = field(
        default_factory=lambda: (
            {"concept": 0.3} | dict.fromkeys(("background", "texture", "size", "kind", "unsafe"), 0.09)
        )
    )
    """Weights of what each patch token must tell alone, so that the language model can read it off any of them."""
    word_weight: float = 0.5
    """Weight of the loss that draws the projected image near the embeddings of the words for what it shows."""
    looking_share: float = 0.12
    """Share of the language steps, at the start, in which samples are those of ``LOOKING``; then of ``mixture``."""
    mixture: Mixture = field(default_factory=Mixture)


def train(seed: int, recipe: Recipe, open_bar: OpenBar) -> tuple[Any, Any]:
    """Train a model from scratch.

    Returns model and processor.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = build()
        shown = recipe.tower_steps * recipe.tower_batch, recipe.language_steps * recipe.language_batch
        wanted = recipe.tower_pictures, recipe.probe_pictures
        _train_tower(
            model,
            draw_both("draw images for the tower", "tower", seed, wanted, shown[0], 2, open_bar),
            recipe,
            open_bar,
        )
        wanted = recipe.language_pictures, recipe.probe_pictures
        pictures = draw_both("draw images for the language", "language", seed, wanted, shown[1], 2, open_bar)
        vlm = VisionLanguageModel("mini-llava", model, processor)
        _train_language(vlm, pictures, random.Random(f"{seed}/pretrain"), recipe, open_bar)
    return model.eval(), processor


def _train_tower(model: nn.Module, pictures: tuple[Pictures, Pictures], recipe: Recipe, open_bar: OpenBar) -> None:
    """Teach the tower to classify, by the mean of its patch tokens and by each of them; then freeze it."""
    (large, small), tower = pictures, model.get_submodule("model.vision_tower")
    labels = large.labels(), small.labels()
    head = nn.Linear(VISION_WIDTH, sum(LABELS.values()))
    _whiten_patches(tower, large.pixels)
    named = [*tower.named_parameters(), *head.named_parameters()]
    step = _optimizers(named, 0.05, recipe.muon_rate, recipe.tower_adam_rate, recipe.tower_steps)
    number = recipe.tower_batch - recipe.tower_probes
    with open_bar("tower", recipe.tower_steps) as progress:
        for index in range(recipe.tower_steps):
            some = torch.randint(len(large.pixels), (number,))
            probes = torch.randint(len(small.pixels), (recipe.tower_probes,))
            pixels = large.pixels[some].flip(2) if index % 2 else large.pixels[some]
            tokens = patch_tokens(tower, torch.cat([pixels, small.pixels[probes]]))[:, 1:]
            classes = torch.cat([labels[0][some], labels[1][probes]])
            loss = _classification(head(tokens.mean(1)), classes, recipe.label_weights)
            patches = head(tokens[:number]).flatten(0, 1)
            loss = loss + _classification(
                patches, classes[:number].repeat_interleave(tokens.shape[1], 0), recipe.patch_weights
            )
            torch.autograd.backward(loss)
            step(index)
            progress(index + 1, recipe.tower_steps)
    tower.requires_grad_(False)


def _classification(logits: Tensor, classes: Tensor, weights: dict[str, float]) -> Tensor:
    """Weighted sum of cross-entropies over the kinds of labels; logits (N, all classes), classes (N, kinds)."""
    parts = dict(zip(LABELS, zip(torch.split(logits, list(LABELS.values()), -1), classes.T, strict=True), strict=True))
    return torch.stack([weight * F.cross_entropy(*parts[name]) for name, weight in weights.items()]).sum()


@torch.no_grad()
def _whiten_patches(tower: nn.Module, pixels: Tensor) -> None:
    """Start the patch embedding as whitening filters: leading principal components of patches, with either sign."""
    some = _normalised(pixels[torch.randint(len(pixels), (min(3000, len(pixels)),))])
    patches = F.unfold(some, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(0)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values.clamp(min=0) + 3e-3).sqrt()).T.flip(0)[: VISION_WIDTH // 2]
    [embedding] = [module for module in tower.modules() if isinstance(module, nn.Conv2d)]
    embedding.weight.copy_((torch.cat([filters, -filters]) * 0.3).view_as(embedding.weight))


@torch.no_grad()
def whiten_projector(projector: nn.Module, seen: Tensor) -> None:
    """Start the projector's first layer by whitening patch tokens, so that what varies little can be read, too."""
    tokens = seen[:: max(1, len(seen) // 4000), 1:].float().flatten(0, 1)
    mean = tokens.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(tokens.T))
    filters = (vectors / (values.clamp(min=0) + 1).sqrt()).T.flip(0)
    layer = projector.get_submodule("linear_1")
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    weight.zero_()
    weight[: len(filters)] = filters
    bias.copy_(-weight @ mean)


def patch_tokens(tower: nn.Module, pixels: Tensor) -> Tensor:
    """Hidden states (N, 17, 128) that the projector reads, the class token first."""
    hidden: Tensor = tower(pixel_values=_normalised(pixels), output_hidden_states=True).hidden_states[-1]
    return hidden


def _normalised(pixels: Tensor) -> Tensor:
    """What the image processor makes of pixels (N, S, S, 3): (N, 3, S, S) from -1 to 1."""
    return pixels.float().permute(0, 3, 1, 2) / 127.5 - 1


class FrozenTower(nn.Module):
    """Stand-in for the frozen tower: its input is the hidden states, computed once."""

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Hand ``pixel_values`` (N, 17, 128) on as what the tower would have made."""
        return BaseModelOutputWithPooling(last_hidden_state=pixel_values, hidden_states=(pixel_values,))


def _train_language(
    vlm: VisionLanguageModel,
    pictures: tuple[Pictures, Pictures],
    rng: random.Random,
    recipe: Recipe,
    open_bar: OpenBar,
) -> None:
    """Teach projector and language model to answer questions on images that the tower has not trained on."""
    model, tower = vlm.model, vlm.model.model.vision_tower
    with torch.no_grad():
        chunks = [chunk for part in pictures for chunk in torch.split(part.pixels, 256)]
        seen = torch.cat([patch_tokens(tower, chunk).half() for chunk in chunks])
    whiten_projector(model.model.multi_modal_projector, seen)
    questions = Questions(*pictures, rng)
    targets = _word_targets(vlm.processor.tokenizer, pictures)
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    step = _optimizers(named, 0.01, recipe.muon_rate, recipe.language_adam_rate, recipe.language_steps)
    blank = [Image.new("RGB", (SIZE, SIZE))] * recipe.language_batch
    model.model.vision_tower = FrozenTower()
    model.train()
    with open_bar("language model", recipe.language_steps) as progress:
        for index in range(recipe.language_steps):
            mixture = LOOKING if index < recipe.looking_share * recipe.language_steps else recipe.mixture
            samples = [questions.draw(mixture) for _ in range(recipe.language_batch)]
            texts = [s.question for s in samples], [s.answer for s in samples]
            inputs, labels = chat.encode_samples(vlm, blank, *texts, max_length=256)
            inputs["pixel_values"] = seen[[s.picture for s in samples]].float()
            loss = _answer_loss(chat.answer_log_probs(model, inputs, labels), recipe)
            shown = torch.stack([targets[s.picture] for s in samples])
            loss = loss + recipe.word_weight * _word_loss(model, inputs["pixel_values"], shown)
            torch.autograd.backward(loss)
            step(index)
            progress(index + 1, recipe.language_steps)
    model.model.vision_tower = tower


def _word_targets(tokenizer: Any, pictures: tuple[Pictures, Pictures]) -> Tensor:
    """For each image an even distribution over the words for what it shows, (N, V) in half precision."""
    shown = [words(*pair) for part in pictures for pair in zip(part.concepts, part.metas, strict=True)]
    targets = torch.zeros(len(shown), len(tokenizer), dtype=torch.half)
    for row, picture in enumerate(shown):
        targets[row, tokenizer.convert_tokens_to_ids([f"Ġ{word.strip()}" for word in picture])] = 1
    return targets / targets.sum(1, keepdim=True)


def _word_loss(model: nn.Module, seen: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the words that the mean projected patch token is nearest to; targets (B, V).

    Images and words then share a space: to find a word in an image is to find its like.
    """
    projected = model.get_submodule("model.multi_modal_projector")(seen[:, 1:]).mean(1)
    logits = projected @ model.get_submodule("model.language_model.embed_tokens").get_parameter("weight").T
    return F.cross_entropy(logits, targets.float())


def _answer_loss(log_probs: chat.AnswerLogProbs, recipe: Recipe) -> Tensor:
    """Cross-entropy per token over the batch, the first tokens of each answer weighing more."""
    weights = log_probs.mask.float()
    weights[:, : recipe.head_tokens] *= 1 + recipe.head_weight
    return -(log_probs.answer * weights).sum() / weights.sum()


def _optimizers(
    named: Iterable[tuple[str, nn.Parameter]], decay: float, muon_rate: float, adam_rate: float, steps: int
) -> Step:
    """Muon for the layers' matrices, AdamW for the rest; 8 % warm-up, then cosine decay."""
    named = list(named)
    matrices = [p for name, p in named if p.ndim == 2 and "layers" in name]
    others = [p for name, p in named if not (p.ndim == 2 and "layers" in name)]
    muon = Muon(matrices, muon_rate, weight_decay=decay)
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=adam_rate, betas=(0.9, 0.98))

    def step(index: int) -> None:
        factor = min(1.0, (index + 1) / (0.08 * steps)) * 0.5 * (1 + math.cos(math.pi * index / steps))
        for optimizer, rate in ((muon, muon_rate), (adam, adam_rate)):
            for group in optimizer.param_groups:
                group["lr"] = factor * rate
        nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer in (muon, adam):
            optimizer.step()
            optimizer.zero_grad()

    return step
