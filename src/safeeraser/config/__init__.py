"""Every option there is: one dataclass per subcommand; a field's docstring is its ``--help``.

The command line, YAML files (``--config``) and Python callers share these classes; an unknown key is an error.
"""

from safeeraser.config.data import (
    DataBuildConfig,
    DataShowConfig,
)
from safeeraser.config.line import (
    BenchConfig,
    JudgeConfig,
    PretrainConfig,
    RespondConfig,
    ScoreConfig,
    UnlearnConfig,
)
from safeeraser.config.loading import Attention, ModelOptions, Quantization
from safeeraser.config.options import (
    GenerationOptions,
    LoraOptions,
    Preset,
    Protocol,
    UnlearnOptions,
    recipe_defaults,
)
from safeeraser.config.plan import PlanConfig

__all__ = [
    "Attention",
    "BenchConfig",
    "DataBuildConfig",
    "DataShowConfig",
    "GenerationOptions",
    "JudgeConfig",
    "LoraOptions",
    "ModelOptions",
    "PlanConfig",
    "Preset",
    "PretrainConfig",
    "Protocol",
    "Quantization",
    "RespondConfig",
    "ScoreConfig",
    "UnlearnConfig",
    "UnlearnOptions",
    "recipe_defaults",
]
