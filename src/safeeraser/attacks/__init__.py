"""Attacks on the unlearned model: what the scores become when somebody tries to get the answers back.

Of three kinds: other words (``prompt``), another image (``image``; ``universal`` optimises one change of them all),
other weights (``recovery``). To add one, write one function with its decorator in the file of its kind.
"""

from safeeraser.attacks import image, prompt, recovery, universal
from safeeraser.attacks.attack import ATTACKS, NONE, Attack, Scene, Subject, attack_options, find
from safeeraser.attacks.stage import METRICS, AttackedCell, prepare, read_translations, run
from safeeraser.attacks.summary import AttackRow, summarise

__all__ = [
    "ATTACKS", "METRICS", "NONE", "Attack", "AttackRow", "AttackedCell", "Scene", "Subject", "attack_options", "find",
    "image", "prepare", "prompt", "read_translations", "recovery", "run", "summarise", "universal",
]  # fmt: skip
