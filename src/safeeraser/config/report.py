"""Options of the subcommands that show a run: report, view."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ReportConfig:
    """Write the report of a finished run anew: tables, figures and one HTML page that needs no network.

    Example:
        safeeraser report runs/demo
    """

    run: str
    """Run folder written by 'safeeraser bench'; the report goes into its folder report/."""


@dataclass
class ViewConfig:
    """Show the report of a run in a browser, served on this machine alone.

    Example:
        safeeraser view runs/demo
    """

    run: str
    """Run folder written by 'safeeraser bench'."""
    port: int = 8321
    """Port on 127.0.0.1; 0: any free one."""
