"""GPUs that the cells of a bench may use, without torch, which takes seconds to import and would keep memory on a GPU.

NVIDIA's are listed by ``nvidia-smi``; of others (AMD, WSL without it) only their being there is known.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

VARIABLE = "CUDA_VISIBLE_DEVICES"
_CARD = re.compile(r"GPU \d+: (?P<name>.+) \(UUID: (?P<uuid>GPU-[^)]+)\)")
_SLICE = re.compile(r"\s+MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)]+)\)")
_PROFILE = re.compile(r"(\d+)gb")


@dataclass(frozen=True)
class Gpu:
    """A GPU, or a MIG slice of one."""

    visible: str | None
    """What CUDA_VISIBLE_DEVICES calls it; None: it is left to the process which one it finds."""
    memory: int | None = None
    """Bytes; None: unknown."""
    title: str = "GPU"
    """What to call it in a message."""


class _Card(NamedTuple):
    whole: Gpu
    slices: tuple[Gpu, ...]

    @property
    def parts(self) -> tuple[Gpu, ...]:
        return self.slices or (self.whole,)


def visible(device: str = "auto") -> list[Gpu]:
    """List the GPUs that a model on ``device`` may be put on; none where it runs on the CPU.

    A list in CUDA_VISIBLE_DEVICES is kept to, cut where CUDA cuts it: at the first entry that is no GPU. A GPU that
    ``device`` names by its number is the only one.

    Example:
        >>> visible("cpu")
        []
    """
    if device == "cpu" or not _built_for_gpus():
        return []
    asked = os.environ.get(VARIABLE)
    cards = _nvidia_cards() if asked is None or asked.strip() not in ("", "-1") else []
    if asked is None:
        found = [part for card in cards for part in card.parts] if cards else _unlisted()
    else:
        found = _chosen([entry.strip() for entry in asked.split(",")], cards)
    kind, _, number = device.partition(":")
    if kind == "cuda" and number.isdigit():  # as every cell names it, the numbers have to stay what they are
        return [replace(gpu, visible=None) for gpu in found[int(number) : int(number) + 1]]
    return found


def _built_for_gpus() -> bool:
    """Whether the installed torch can use a GPU at all; its version says so where it cannot."""
    try:
        return not metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return True


def _nvidia_cards() -> list[_Card]:
    """The cards of this machine in the order of the bus, as ``nvidia-smi`` lists them; none without it."""
    listing, table = _ask("-L"), _ask("--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits")
    sizes = dict(line.split(", ") for line in table.splitlines() if line.count(", ") == 1)
    cards: list[_Card] = []
    for line in listing.splitlines():
        if card := _CARD.match(line):
            mib = sizes.get(card["uuid"], "")
            memory = int(mib) * 2**20 if mib.isdigit() else None
            cards.append(_Card(Gpu(card["uuid"], memory, f"GPU {len(cards)} ({card['name']})"), ()))
        elif cards and (part := _SLICE.match(line)):
            nominal = _PROFILE.search(part["profile"])
            title = f"{cards[-1].whole.title}, MIG {part['profile']}"
            slice_ = Gpu(part["uuid"], int(nominal[1]) * 10**9 if nominal else None, title)
            cards[-1] = _Card(cards[-1].whole, (*cards[-1].slices, slice_))
    return cards


def _ask(*arguments: str) -> str:
    try:
        done = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _unlisted() -> list[Gpu]:
    """GPUs that nothing is known of but their device files; AMD's and WSL's do not say how many there are."""
    devices = Path("/dev")
    count = len(list(devices.glob("nvidia[0-9]*")))
    if count:
        return [Gpu(str(number), title=f"GPU {number}") for number in range(count)]
    return [Gpu(None)] if any((devices / name).exists() for name in ("dxg", "kfd")) else []


def _chosen(entries: Sequence[str], cards: Sequence[_Card]) -> list[Gpu]:
    """The GPUs that a list in CUDA_VISIBLE_DEVICES names, under the names that it gives them."""
    found: list[Gpu] = []
    for entry in entries:
        gpu = _find(entry, cards)
        if gpu is None:
            break
        found.append(replace(gpu, visible=entry))
    return found


def _find(entry: str, cards: Sequence[_Card]) -> Gpu | None:
    if not cards:
        is_name = entry.isdigit() or entry.startswith(("GPU-", "MIG-"))
        return Gpu(entry, title=f"GPU {entry}") if is_name else None
    if entry.isdigit():
        if int(entry) >= len(cards):
            return None
        gpu = cards[int(entry)].parts[0]  # CUDA takes the first slice of a card that is cut up
        return gpu if os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" else _any_of(cards, gpu)
    every = [gpu for card in cards for gpu in (card.whole, *card.slices)]
    return next((gpu for gpu in every if entry and (gpu.visible or "").startswith(entry)), None)


def _any_of(cards: Sequence[_Card], gpu: Gpu) -> Gpu:
    """CUDA counts the fastest card first, nvidia-smi the first on the bus: of unlike cards the least is assumed."""
    memories = [card.parts[0].memory for card in cards]
    if len(set(memories)) == 1:
        return gpu
    known = [memory for memory in memories if memory is not None]
    return Gpu(gpu.visible, min(known, default=None), "the smallest GPU here")
