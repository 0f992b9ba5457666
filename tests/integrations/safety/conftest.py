"""A run of two small cells, whole."""

from dataclasses import asdict
from pathlib import Path

import pytest

from safeeraser import models
from safeeraser.bench import cell
from safeeraser.bench.runs import Cell
from safeeraser.bench.spec import CellSpec, training_values
from safeeraser.config import GenerationOptions, LoraOptions, UnlearnOptions
from safeeraser.data.pictogram.build import build


@pytest.fixture
def safety_run(tmp_path: Path) -> Path:
    """Vanilla and po, a few records with a question each."""
    benchmark = build(tmp_path / "small", records=24, workers=1)
    training = UnlearnOptions(lora=LoraOptions(rank=2, alpha=8.0), steps=1, batch_size=2, learning_rate=1e-3)
    for method in ("vanilla", "po"):
        folder = tmp_path / "run" / "cells" / "mini-llava" / method / "seed-0"
        spec = CellSpec(
            model="mini-llava", model_fingerprint=models.fingerprint("mini-llava"), data=str(benchmark), method=method,
            seed=0, limit=4, questions=1, sets=("generality", "safe"), training=training_values(training, None),
            generation=asdict(GenerationOptions(max_new_tokens=3, batch_size=12)),
        )  # fmt: skip
        Cell(folder, spec).prepare()
        cell.run(folder)
    return tmp_path / "run"
