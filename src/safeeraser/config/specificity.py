"""Options of the subcommand ``safeeraser specificity``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SpecificityConfig:
    """Run public benchmarks on finished cells through lmms-eval: Specificity as in the paper, GQA to MMBench.

    Example:
        safeeraser specificity runs/bench/cells/llava/po+pd/seed-0 --python lmms-env/bin/python
        safeeraser specificity runs/bench --tasks pope,mine:exact_match --include_path tasks
    """

    run: str
    """Cell folder of a run: cells/MODEL/METHOD/seed-S; or the run folder, or one between: then all cells in it."""
    suite: str = "paper"
    """Set of tasks: 'paper' (GQA, VizWiz, ScienceQA, VQAv2, POPE, MM-Vet, MMBench)."""
    tasks: str | None = None
    """Tasks of lmms-eval instead of a suite, comma-separated; TASK:METRIC chooses one of several metrics."""
    include_path: str | None = None
    """Folder with the YAML files of tasks of your own."""
    limit: int | None = None
    """Ask only the first so many questions of each task: the result is marked as partial and enters no table."""
    python: str | None = None
    """Python that has lmms-eval; None: $SAFEERASER_LMMS_PYTHON, or else the one that runs this."""
    model_type: str | None = None
    """lmms-eval's model type, such as 'llava_hf', or 'safeeraser' for any checkpoint; None: what fits the model."""
    device: str = "auto"
    """Device of the model: 'cuda', 'cuda:1', 'cpu'; 'auto': a GPU if there is one."""
    batch_size: int = 1
    """Questions answered at a time; 'llava_hf' takes 1 only."""
