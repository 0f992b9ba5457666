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
from safeeraser.config.options import (
    RECIPES,
    GenerationOptions,
    LoraOptions,
    Preset,
    Protocol,
    Tracker,
    UnlearnOptions,
    recipe_defaults,
    recipe_model,
)

__all__ = [
    "RECIPES",
    "BenchConfig",
    "DataBuildConfig",
    "DataShowConfig",
    "GenerationOptions",
    "JudgeConfig",
    "LoraOptions",
    "Preset",
    "PretrainConfig",
    "Protocol",
    "RespondConfig",
    "ScoreConfig",
    "Tracker",
    "UnlearnConfig",
    "UnlearnOptions",
    "recipe_defaults",
    "recipe_model",
]
