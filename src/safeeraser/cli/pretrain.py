"""``safeeraser pretrain``: rebuild a built-in model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from safeeraser.cli.parser import Positional
from safeeraser.config import FilePath
from safeeraser.core.errors import UserError
from safeeraser.core.terminal import say


@dataclass
class PretrainConfig:
    """Rebuild a built-in model, from renderings of the embedded benchmark.

    mini-llava is trained from scratch, in ten minutes on two cores; smol-llava from SmolLM2-135M-Instruct, in five
    minutes on an H200 or, by estimate, two to three hours on two cores; the same command goes on where an interrupted
    one stopped.

    Example:
        safeeraser pretrain --out my-mini && safeeraser bench --model my-mini
        safeeraser pretrain smol-llava --out my-smol && safeeraser bench --model my-smol --quick
    """

    out: FilePath[str]
    """Folder for the checkpoint, in the LLaVA layout."""
    model: Positional[str] = "mini-llava"
    """'mini-llava' (if none is given) or 'smol-llava'."""
    seed: int = 0
    """Seed of renderings, initialisation and sample order."""
    steps: int | None = None
    """smol-llava: optimizer steps of the language model. None: 700."""
    batch_size: int | None = None
    """smol-llava: questions about images in each step; a third as many without one are added. None: 16."""
    pictures: int | None = None
    """smol-llava: images of each concept. None: 90."""
    replayed: int | None = None
    """smol-llava: plain questions that the base model answers beforehand, so that it stays what it was. None: 900."""
    replay_weight: float | None = None
    """smol-llava: weight of the divergence from these answers beside the loss about images. None: 6."""
    lora_rate: float | None = None
    """smol-llava: learning rate of the language model's low-rank change. None: 7e-4."""
    projector_rate: float | None = None
    """smol-llava: learning rate of the projector. None: 5e-4."""
    max_seconds: float | None = None
    """smol-llava: time budget of these steps, in which the learning rate falls to 0. None: no budget."""
    device: str = "auto"
    """smol-llava: 'auto' (a GPU where there is one), 'cpu' or 'cuda'."""


def pretrain(options: PretrainConfig) -> int:
    """``safeeraser pretrain``."""
    # threads that spin while they wait are ten times slower on a busy machine; read when torch is first imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    names = ("steps", "pictures", "replayed", "replay_weight", "lora_rate", "projector_rate", "max_seconds")
    given = {"batch": options.batch_size} | {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if options.model == "mini-llava":
        if given:
            raise UserError(f"{', '.join(given)}: for smol-llava; mini-llava takes --out and --seed alone")
        from safeeraser.models.mini_llava import model as mini_llava

        mini_llava.pretrain(Path(options.out), seed=options.seed)
    elif options.model == "smol-llava":
        from safeeraser.models.smol_llava import pretrain as smol_llava

        smol_llava.run(Path(options.out), smol_llava.Recipe(seed=options.seed, **given), options.device)
    else:
        raise UserError(f"unknown model {options.model!r}: give mini-llava or smol-llava")
    say(f"checkpoint: {options.out}\nnext: safeeraser bench --model {options.out}")
    return 0
