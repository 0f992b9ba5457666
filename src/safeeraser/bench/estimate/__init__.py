"""Before a run: what a model, data and a method will take. Nothing is loaded but configurations and the data."""

from safeeraser.bench.estimate.compute import Passes, passes_of
from safeeraser.bench.estimate.costs import Calls, Costs, Lengths, estimate_costs, workload
from safeeraser.bench.estimate.fit import batch_that_fits, check_fit, image_sizes
from safeeraser.bench.estimate.hours import CARDS, Rates, rates
from safeeraser.bench.estimate.memory import Memory, Workload, peak
from safeeraser.bench.estimate.sizes import PRESETS, Sizes, measure

__all__ = [
    "CARDS", "PRESETS", "Calls", "Costs", "Lengths", "Memory", "Passes", "Rates", "Sizes", "Workload",
    "batch_that_fits", "check_fit", "estimate_costs", "image_sizes", "measure", "passes_of", "peak", "rates",
    "workload",
]  # fmt: skip
