"""The command line: ``main`` finds the subcommand; one file per theme holds options and function of its subcommands."""

from safeeraser.cli.main import main

__all__ = ["main"]
