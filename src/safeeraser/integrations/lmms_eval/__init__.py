"""Specificity on public benchmarks: lmms-eval, in an interpreter of its own, on the merged checkpoint of a cell.

``stage`` goes from task to task; ``lmms`` speaks with lmms-eval; ``runner`` is the script that lmms-eval's interpreter
runs, with a model type for what lmms-eval has none for. What a suite is and how results become scores:
``metrics/specificity.py``.
"""

from safeeraser.integrations.lmms_eval.lmms import Interpreter, find_interpreter, model_type
from safeeraser.integrations.lmms_eval.stage import Failure, MeasuredCell, prepare, run

__all__ = ["Failure", "Interpreter", "MeasuredCell", "find_interpreter", "model_type", "prepare", "run"]
