"""Options of ``safeeraser plan``."""

from __future__ import annotations

from dataclasses import dataclass, field

from safeeraser.config.options import GenerationOptions, UnlearnOptions


@dataclass
class PlanConfig:
    """Say beforehand what a run takes: parameters, steps, GPU memory, answers, judge calls and their cost.

    Nothing is downloaded but a configuration, and no weights are loaded.

    Example:
        safeeraser plan --model llava-1.5-7b --data pictogram --method po+pd --training.batch_size 1 --accumulation 16
        safeeraser plan --model llava-1.5-13b --method kl+pd --processes 2 --protocol official --judge_price 2.5,10
    """

    model: str = "llava-1.5-7b"
    """'llava-1.5-7b' or 'llava-1.5-13b' (known without network), 'mini-llava', a local folder, or a hub name."""
    data: str = "pictogram"
    """Built-in 'pictogram' or a folder in the release layout."""
    method: str | dict[str, float] = "po+pd"
    """As for 'unlearn'."""
    limit: int | None = None
    """Only this many records of each split, balanced over categories and keywords."""
    processes: int = 1
    """GPUs that share a step, each with the whole model."""
    judge_price: str = "2.50,10.00"
    """US dollars per million tokens that an API judge reads and writes; assumed: GPT-4o's list price of 2025."""
    training: UnlearnOptions = field(default_factory=UnlearnOptions)
    """Budget and optimizer."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the models answer."""
