"""Options of the subcommand ``safeeraser attack``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class AttackConfig:
    """Attack finished cells: ASR, RR and SARR under other words, other pictures and other weights.

    Example:
        safeeraser attack runs/demo --limit 60
        safeeraser attack runs/demo/cells/mini-llava/po+pd/seed-0 --attacks paraphrase,typographic,relearn
    """

    run: str
    """Run folder written by 'safeeraser bench', or a folder inside it: of a model, of a method, or of a single cell."""
    attacks: str | None = None
    """Attacks, comma-separated; None: all. An unknown name is answered with the names there are."""
    limit: int | None = None
    """Ask about only so many val records, balanced over categories and keywords."""
    seed: int = 0
    """Seed of what attacks draw: synonyms, places of crops, noise, the samples and the training of 'relearn'."""
    relearn_samples: int = 8
    """Forget pairs of train records that 'relearn' trains on."""
    relearn_steps: int = 10
    """Optimizer steps of 'relearn'."""
    translations: str | None = None
    """JSONL file of {"question": ..., "translation": ...} for 'language'; None: the question in a French sentence."""
