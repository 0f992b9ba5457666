"""Figures of a run, as SVG and PDF: the same numbers give the same files, byte for byte."""

from __future__ import annotations

from pathlib import Path

from safeeraser.bench.summary import Results
from safeeraser.report.figures.audit import audit_figure
from safeeraser.report.figures.budget import budget_figure, budget_table
from safeeraser.report.figures.decouple import decouple_figure
from safeeraser.report.figures.heat import attacks_figure, categories_figure
from safeeraser.report.figures.losses import Losses, losses_figure
from safeeraser.report.figures.tradeoff import tradeoff_figure

__all__ = [
    "attacks_figure", "audit_figure", "budget_figure", "budget_table", "categories_figure", "decouple_figure",
    "losses_figure", "tradeoff_figure", "write",
]  # fmt: skip


def write(results: Results, losses: Losses, folder: Path) -> list[Path]:
    """Draw every figure that the results have the numbers for."""
    written = decouple_figure(results, folder) + tradeoff_figure(results.rows, folder)
    return written + categories_figure(results.rows, folder) + losses_figure(losses, folder)
