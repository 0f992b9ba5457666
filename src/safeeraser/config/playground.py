"""Options of ``safeeraser playground``."""

from __future__ import annotations

from dataclasses import dataclass, field

from safeeraser.config.judging import JudgeOptions
from safeeraser.config.loading import ModelOptions
from safeeraser.config.options import GenerationOptions


@dataclass
class PlaygroundConfig:
    """Ask a model and its unlearnt variants about a picture, side by side, in a browser on this machine alone.

    Example:
        safeeraser playground                                # vanilla mini-llava
        safeeraser playground runs/demo                      # vanilla and the cells of a run
        safeeraser playground runs/demo --methods po,po+pd
    """

    run: str | None = None
    """Run folder written by 'safeeraser bench', or a folder inside one; none: the vanilla model only."""
    methods: str | list[str] | None = None
    """Only cells of these methods, comma-separated; none: all of the run. A model is loaded when it is first asked."""
    model: str = "mini-llava"
    """Without a run: built-in 'mini-llava', a local folder, or a hub name."""
    data: str = "pictogram"
    """Without a run: the benchmark that examples are taken from."""
    examples: int = 24
    """How many examples to offer."""
    judge: str = "rules"
    """Judge of the answers: 'rules' (offline), 'api' or 'guard'."""
    port: int = 8322
    """Port on 127.0.0.1; 0: any free one."""
    generation: GenerationOptions = field(default_factory=GenerationOptions)
    """How the models answer."""
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    """How a judge that is a model judges."""
    loading: ModelOptions = field(default_factory=ModelOptions)
    """How the models are loaded."""
