"""A benchmark in the layouts of others: parquet for Hugging Face ``datasets``, conversations for LLaVA."""

from collections.abc import Callable
from pathlib import Path

from safeeraser.config.data import Format
from safeeraser.data.benchmark import Benchmark
from safeeraser.data.export.llava import export_llava
from safeeraser.data.export.parquet import export_parquet
from safeeraser.progress import Progress

__all__ = ["EXPORTS", "export_llava", "export_parquet"]

EXPORTS: dict[Format, Callable[[Benchmark, Path, Progress | None], list[Path]]] = {
    "parquet": export_parquet,
    "llava": export_llava,
}
"""What writes each format: benchmark, output folder, progress -> files written."""
