"""Options of the stages: a dataclass each, shared by command line, YAML files (``--config``) and Python callers.

A field's docstring is its ``--help``, and an unknown key is an error. What else a subcommand takes stands with it in
``cli/``.
"""

from safeeraser.config.bench import BaselineOptions, BenchConfig, Engine
from safeeraser.config.files import RECIPES, read_options, recipe_defaults, recipe_model
from safeeraser.config.judging import JudgeOptions
from safeeraser.config.options import (
    Attention,
    FilePath,
    GenerationOptions,
    GroupBy,
    LoraOptions,
    ModelOptions,
    OnBad,
    Preset,
    Projector,
    Protocol,
    Quantization,
    StepBatch,
    TokenLimit,
    Tracker,
    UnlearnOptions,
    check_tracker,
    deciding_values,
    generation_values,
    sampling,
    step_batch,
    training_values,
)
from safeeraser.config.ranges import at_least_one, check_generation, check_lora, check_training

__all__ = [
    "RECIPES", "Attention", "BaselineOptions", "BenchConfig", "Engine", "FilePath", "GenerationOptions", "GroupBy",
    "JudgeOptions", "LoraOptions", "ModelOptions", "OnBad", "Preset", "Projector", "Protocol", "Quantization",
    "StepBatch", "TokenLimit", "Tracker", "UnlearnOptions", "at_least_one", "check_generation", "check_lora",
    "check_tracker", "check_training", "deciding_values", "generation_values", "read_options", "recipe_defaults",
    "recipe_model", "sampling", "step_batch", "training_values",
]  # fmt: skip
