"""Ranges of options: what lies outside is refused before a model is loaded, and by a bench before a cell is begun."""

from __future__ import annotations

from typing import Any

from safeeraser.config.options import GenerationOptions, LoraOptions, UnlearnOptions, sampling
from safeeraser.core.errors import UserError

SEEDS = 2**32
"""Seeds lie below: numpy takes no others."""
_ABOVE_ZERO = (
    "learning_rate", "projector_rate", "epochs", "steps", "global_batch", "batch_size", "accumulation", "max_length",
    "stop_every", "stop_questions",
)  # fmt: skip


def at_least_one(options: Any, *names: str) -> None:
    """Raise UserError if one of these numbers is given and below 1."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} {value} is too small: give at least 1")


def check_training(options: UnlearnOptions) -> None:
    """Check the numbers that training takes.

    Raises:
        UserError: If one is out of range.

    Example:
        >>> check_training(UnlearnOptions(steps=0))
        Traceback (most recent call last):
        safeeraser.core.errors.UserError: training.steps: 0 was given; give a number greater than 0
    """
    for name in _ABOVE_ZERO:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UserError(f"training.{name}: {value} was given; give a number greater than 0")
    if not 0 <= options.warmup_ratio < 1:
        raise UserError(f"training.warmup_ratio: {options.warmup_ratio} was given; give a share of the steps, 0 to < 1")
    for name in ("text_forget", "pd_noise"):
        if not 0 <= (share := getattr(options, name)) <= 1:
            raise UserError(f"training.{name}: {share} was given; give a share of the triples, 0 to 1")
    if options.saliency is not None and options.saliency < 0:
        raise UserError(f"training.saliency: {options.saliency} was given; give a ratio from 0 upwards, such as 1")
    every = options.checkpoint_steps
    if not (0 <= every < 1 or (every >= 1 and every == int(every))):
        raise UserError(
            f"training.checkpoint_steps: {every} was given; give a number of steps, a share of them below 1, or 0"
        )
    if not 0 <= options.seed < SEEDS:
        raise UserError(f"training.seed: {options.seed} was given; give a whole number from 0 to {SEEDS - 1}")
    check_lora(options.lora)


def check_lora(options: LoraOptions) -> None:
    """Raise UserError if rank, alpha or dropout is out of range."""
    if options.rank < 1 or options.alpha <= 0 or not 0 <= options.dropout < 1:
        raise UserError(
            f"lora rank {options.rank}, alpha {options.alpha}, dropout {options.dropout}: rank must be at least 1, "
            "alpha positive, dropout from 0 to less than 1"
        )


def check_generation(options: GenerationOptions) -> None:
    """Raise UserError if a number is out of range, or the protocol is unknown."""
    sampling(options.protocol)
    for name in ("max_new_tokens", "batch_size"):
        if getattr(options, name) < 1:
            raise UserError(f"generation.{name} {getattr(options, name)} is too small: give at least 1")
