"""Every option there is: one dataclass per subcommand; a field's docstring is its ``--help``.

The command line, YAML files (``--config``) and Python callers share these classes; an unknown key is an error.
"""

from safeeraser.config.attack import AttackConfig
from safeeraser.config.compare import (
    AgreementConfig,
    CompareConfig,
    LeaderboardConfig,
)
from safeeraser.config.data import (
    DataBuildConfig,
    DataCheckConfig,
    DataExportConfig,
    DataShowConfig,
    DataStatsConfig,
)
from safeeraser.config.export import ExportConfig
from safeeraser.config.files import read_options
from safeeraser.config.judging import JudgeCheckConfig, JudgeOptions
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
    RECIPES,
    GenerationOptions,
    LoraOptions,
    OnBad,
    Preset,
    Projector,
    Protocol,
    Tracker,
    UnlearnOptions,
    recipe_defaults,
    recipe_model,
)
from safeeraser.config.own_data import DataCompleteConfig, DataImportConfig
from safeeraser.config.plan import PlanConfig
from safeeraser.config.playground import PlaygroundConfig
from safeeraser.config.report import (
    ReportConfig,
    ViewConfig,
)
from safeeraser.config.specificity import SpecificityConfig

__all__ = [
    "RECIPES",
    "AgreementConfig",
    "AttackConfig",
    "Attention",
    "BenchConfig",
    "CompareConfig",
    "DataBuildConfig",
    "DataCheckConfig",
    "DataCompleteConfig",
    "DataExportConfig",
    "DataImportConfig",
    "DataShowConfig",
    "DataStatsConfig",
    "ExportConfig",
    "GenerationOptions",
    "JudgeCheckConfig",
    "JudgeConfig",
    "JudgeOptions",
    "LeaderboardConfig",
    "LoraOptions",
    "ModelOptions",
    "OnBad",
    "PlanConfig",
    "PlaygroundConfig",
    "Preset",
    "PretrainConfig",
    "Projector",
    "Protocol",
    "Quantization",
    "ReportConfig",
    "RespondConfig",
    "ScoreConfig",
    "SpecificityConfig",
    "Tracker",
    "UnlearnConfig",
    "UnlearnOptions",
    "ViewConfig",
    "read_options",
    "recipe_defaults",
    "recipe_model",
]
