"""Before a run: what a model, data and a method will take. Nothing is loaded but configurations and the data."""

from safeeraser.plan.costs import Calls, Costs, reckon, work
from safeeraser.plan.memory import Memory, Work, peak
from safeeraser.plan.sizes import PRESETS, Sizes, measure

__all__ = ["PRESETS", "Calls", "Costs", "Memory", "Sizes", "Work", "measure", "peak", "reckon", "work"]
