"""Specificity on public benchmarks: lmms-eval, in an interpreter of its own, on the merged checkpoint of a cell.

``stage`` goes from task to task; ``lmms`` speaks with lmms-eval; ``runner`` is the script that lmms-eval's interpreter
runs, with a model type for what lmms-eval has none for. What a suite is and how results become scores: ``suites``.
"""

from safeeraser.specificity.lmms import Interpreter, find_interpreter, model_type
from safeeraser.specificity.stage import Failure, Planned, planned, run

__all__ = ["Failure", "Interpreter", "Planned", "find_interpreter", "model_type", "planned", "run"]
