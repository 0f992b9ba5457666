"""Benchmarks: load one by name or folder, turn it into training triples and evaluation queries. Never imports torch."""

from safeeraser.data.benchmark import Benchmark, Probe, ProbeKind
from safeeraser.data.check.held_out import HeldOut, read_held_out, warn_of_copies
from safeeraser.data.check.texts import warn_of_control_tokens
from safeeraser.data.loading import BENCHMARKS, cache_folder, dev_benchmark, load, requests
from safeeraser.data.queries import queries
from safeeraser.data.text_sets.read import text_hash, text_queries, text_set_names
from safeeraser.data.triples import (
    Triple,
    lacking_pd,
    refusal_for,
    require_pd,
    training_triples,
    triples,
    warn_of_missing_pd,
    with_pd,
)

__all__ = [
    "BENCHMARKS", "Benchmark", "HeldOut", "Probe", "ProbeKind", "Triple", "cache_folder", "dev_benchmark",
    "lacking_pd", "load", "queries", "read_held_out", "refusal_for", "requests", "require_pd", "text_hash",
    "text_queries", "text_set_names", "training_triples", "triples", "warn_of_control_tokens", "warn_of_copies",
    "warn_of_missing_pd", "with_pd",
]  # fmt: skip
