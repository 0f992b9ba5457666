"""Respond: queries in, one response each out, by a local model (``local``) or a served one (``served``).

The package itself can be called, as ``api.respond``.
"""

from safeeraser.core.callable import make_callable
from safeeraser.respond.local import Responder, respond_with, run

__all__ = ["Responder", "respond_with", "run"]
make_callable(__name__)
