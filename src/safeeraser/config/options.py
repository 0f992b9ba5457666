"""Option groups that several subcommands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

Protocol = Literal["greedy", "official"]
Preset = Literal["default", "official"]
OnBad = Literal["fail", "skip"]
Projector = Literal["full", "sine"]
Tracker = Literal["none", "tensorboard", "wandb", "trackio"]
RECIPES = Path(__file__).parents[1] / "recipes"
"""A YAML file for each model that options ship for; in ``accelerate/``, how to launch several processes."""


@dataclass
class LoraOptions:
    """Which weights unlearning may change."""

    rank: int = 32
    """LoRA rank r on every linear layer of the language model."""
    alpha: float = 256.0
    """LoRA alpha; the update is scaled by alpha / rank."""
    dropout: float = 0.05
    """LoRA dropout."""
    projector: Projector = "full"
    """How the projector is tuned: 'full' (its own weights), or 'sine' (SineProject: W + sin(dW), W frozen)."""


@dataclass
class UnlearnOptions:
    """How to unlearn. The defaults are the paper's; ``mini-llava`` brings its own budget (see ``unlearn --help``)."""

    preset: Preset = "default"
    """Term weights where the method gives none: 'default' (1 each) or 'official' (the official code's)."""
    lora: LoraOptions = field(default_factory=LoraOptions)
    """LoRA rank, alpha, dropout, and how the projector is tuned."""
    learning_rate: float = 1e-4
    """Peak learning rate of the cosine schedule."""
    warmup_ratio: float = 0.06
    """Share of the steps in which the rate rises linearly."""
    epochs: float = 10.0
    """Passes over the training triples; steps, if given, wins."""
    steps: int | None = None
    """Optimizer steps in all."""
    batch_size: int = 16
    """Triples per forward pass on each process."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    max_grad_norm: float = 1.0
    """Gradient norm at which gradients are clipped."""
    max_length: int = 512
    """Longest sample in tokens after the image; longer answers are cut."""
    ascent_bound: float | None = None
    """Cross-entropy (nats per token) at which gradient ascent on a sample ends; none: unbounded, as in the paper."""
    npo_beta: float = 0.1
    """Inverse temperature of NPO."""
    simnpo_beta: float = 2.5
    """Inverse temperature of SimNPO; the paper takes 2.5 or 4.5."""
    simnpo_gamma: float = 0.0
    """Margin of SimNPO; above 0 an answer is pushed further down."""
    dpo_beta: float = 0.1
    """Inverse temperature of DPO."""
    rmu_coefficient: float = 6.5
    """Length of the random vector that RMU draws hidden states to; of the order of the length of a state."""
    rmu_layer: int | None = None
    """Layer of the language model, from 1, whose states RMU reads; none: a quarter of the depth, rounded up."""
    seed: int = 233
    """Seed of sample order, refusals, dropout and LoRA initialisation."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, about a third more time, the same adapter."""
    cache_reference: bool = False
    """Run the reference model once per sample and keep its log-probabilities; for npo and dpo, not for kl or rmu."""
    checkpoint_steps: float = 0.05
    """Optimizer steps between checkpoints; below 1: a share of all steps; 0: none. A killed run goes on from there."""
    tracker: Tracker = "none"
    """Where the log goes beside train.jsonl: 'tensorboard', 'wandb' or 'trackio' (each has to be installed)."""


@dataclass
class GenerationOptions:
    """How models answer."""

    protocol: Protocol = "greedy"
    """'greedy' (one deterministic answer per question) or 'official' (3 samples per forget question, 1 elsewhere,
    temperature 1.0, top-p 0.9)."""
    max_new_tokens: int = 512
    """Longest answer in tokens."""
    batch_size: int = 8
    """Questions answered at once; the longest go first."""
    seed: int = 0
    """Seed of the sampling; greedy answers do not depend on it."""


def recipe_defaults(name: str) -> dict[str, dict[str, object]]:
    """Return the option values that ship for a model or under a recipe's name ({} if none), by option group.

    Args:
        name: Name of a recipe (``llava-1.5-7b-24gb``) or of a model (``llava-hf/llava-1.5-7b-hf``); of several recipes
            for one model, the one with the shortest name is its default.

    Example:
        >>> recipe_defaults("mini-llava")["training"]["learning_rate"] > 0
        True
        >>> recipe_defaults("llava-hf/llava-1.5-7b-hf")["training"]["seed"]
        233
    """
    loaded = _recipes()
    named = [recipe for recipe in loaded if name in (recipe, loaded[recipe]["model"])]
    found = name if name in named else min(named, key=len, default="")
    return {group: values for group, values in loaded.get(found, {}).items() if group != "model"}


def recipe_model(name: str) -> str | None:
    """Return the model of a recipe; None if there is no recipe of this name.

    Example:
        >>> recipe_model("llava-1.5-7b-24gb")
        'llava-hf/llava-1.5-7b-hf'
    """
    return _recipes().get(name, {}).get("model")


@cache
def _recipes() -> dict[str, dict[str, Any]]:
    import yaml

    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(RECIPES.glob("*.yaml"))}
