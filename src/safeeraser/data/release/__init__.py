"""The layout of the SafeEraser release: read with every problem in one report, written back key for key.

``dataset/all_train.json`` and ``dataset/all_val.json`` hold the records, as a JSON list or as JSON lines;
``dataset/prompt.json`` the refusals; ``dataset/probes.json``, our own and optional, capability probes. Copies in the
wild lack keys: what training and evaluation can do without may be missing; everything else that is wrong is found in
one pass and reported in one error. ``docs/data.md`` says what may be missing.
"""

from safeeraser.data.release.problems import Problem
from safeeraser.data.release.read import examine, read_release
from safeeraser.data.release.write import rewrite, write_release

__all__ = ["Problem", "examine", "read_release", "rewrite", "write_release"]
