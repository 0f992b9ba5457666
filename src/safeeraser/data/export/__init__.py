"""A benchmark in the layouts of others: parquet for Hugging Face ``datasets``, conversations for LLaVA."""

from collections.abc import Callable
from pathlib import Path

from safeeraser.core.terminal import Progress
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.export.llava import export_llava
from safeeraser.data.export.parquet import export_parquet

__all__ = ["EXPORTS", "export_llava", "export_parquet"]

EXPORTS: dict[str, Callable[[Benchmark, Path, Progress | None], list[Path]]] = {
    "parquet": export_parquet,
    "llava": export_llava,
}
"""What writes each format: benchmark, output folder, progress -> files written."""
