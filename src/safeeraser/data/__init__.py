"""Benchmarks: load one by name or folder, turn it into training triples and evaluation queries. Never imports torch."""

from safeeraser.data.benchmark import BENCHMARKS, Benchmark, Probe, ProbeKind, cache_folder, load
from safeeraser.data.decouple import lacking_pd, require_pd, warn_of_missing_pd, with_pd
from safeeraser.data.dev import dev_benchmark
from safeeraser.data.heldout import HeldOut, read_held_out, warn_of_copies
from safeeraser.data.queries import queries
from safeeraser.data.triples import Triple, refusal_for, triples

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "HeldOut",
    "Probe",
    "ProbeKind",
    "Triple",
    "cache_folder",
    "dev_benchmark",
    "lacking_pd",
    "load",
    "queries",
    "read_held_out",
    "refusal_for",
    "require_pd",
    "triples",
    "warn_of_copies",
    "warn_of_missing_pd",
    "with_pd",
]
