"""Attacks on the unlearned model: what the scores become when somebody tries to get the answers back.

Of three kinds, one file each: other words (``prompt``), another picture (``image``), other weights (``recovery``). To
add one, write one function with its decorator in the file of its kind.
"""

from safeeraser.attacks import image, prompt, recovery
from safeeraser.attacks.attack import ATTACKS, NONE, Attack, Options, Scene, Subject, find
from safeeraser.attacks.stage import METRICS, Planned, planned, read_translations, run
from safeeraser.attacks.under_attack import summarise, write

__all__ = [
    "ATTACKS",
    "METRICS",
    "NONE",
    "Attack",
    "Options",
    "Planned",
    "Scene",
    "Subject",
    "find",
    "image",
    "planned",
    "prompt",
    "read_translations",
    "recovery",
    "run",
    "summarise",
    "write",
]
