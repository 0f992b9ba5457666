"""Every option there is: one dataclass per subcommand; a field's docstring is its ``--help``.

The command line, YAML files (``--config``) and Python callers share these classes; an unknown key is an error.
"""

from safeeraser.config.data import (
    DataBuildConfig,
    DataCheckConfig,
    DataExportConfig,
    DataShowConfig,
    DataStatsConfig,
)
from safeeraser.config.judging import JudgeCheckConfig, JudgeOptions
from safeeraser.config.line import (
    BenchConfig,
    JudgeConfig,
    PretrainConfig,
    RespondConfig,
    ScoreConfig,
    UnlearnConfig,
)
from safeeraser.config.options import (
    GenerationOptions,
    LoraOptions,
    OnBad,
    Preset,
    Protocol,
    UnlearnOptions,
    recipe_defaults,
)
from safeeraser.config.own_data import DataCompleteConfig, DataImportConfig

__all__ = [
    "BenchConfig",
    "DataBuildConfig",
    "DataCheckConfig",
    "DataCompleteConfig",
    "DataExportConfig",
    "DataImportConfig",
    "DataShowConfig",
    "DataStatsConfig",
    "GenerationOptions",
    "JudgeCheckConfig",
    "JudgeConfig",
    "JudgeOptions",
    "LoraOptions",
    "OnBad",
    "Preset",
    "PretrainConfig",
    "Protocol",
    "RespondConfig",
    "ScoreConfig",
    "UnlearnConfig",
    "UnlearnOptions",
    "recipe_defaults",
]
