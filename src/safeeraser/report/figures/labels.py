"""Where labels go so that they cover neither each other nor a marker; plane geometry, nothing is drawn here."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

Point = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""
Line = tuple[Point, Point]

ORDERS = 24
"""Orders of placing that are tried; the best is kept."""


def place(points: Sequence[Point], sizes: Sequence[Point], inside: Box, unit: float) -> list[Point]:
    """Find a place for a label at each point: covering nothing first, then with few crossed lines, then near.

    Labels are placed one after the other; as the outcome depends on the order, several orders are tried.

    Args:
        points: Where the markers are.
        sizes: Width and height of each label.
        inside: The area that labels stay in.
        unit: A marker is 11 units wide and high.

    Returns:
        Offsets of the labels' centres from their points.

    Example:
        >>> (offset,) = place([(50, 50)], [(20, 8)], (0, 0, 100, 100), 1)
        >>> abs(offset[0]) + abs(offset[1]) > 5
        True
    """
    indices = sorted(range(len(points)), key=lambda i: points[i])
    shuffler = random.Random(0)
    orders = [indices, indices[::-1], *[shuffler.sample(indices, len(indices)) for _ in range(ORDERS - 2)]]
    best: tuple[tuple[int, int, int], list[Point]] | None = None
    for order in orders:
        found = _in_order(order, points, sizes, inside, unit, best[0] if best else None)
        if found is not None:
            best = found
    return best[1] if best else []


def _in_order(
    order: Sequence[int],
    points: Sequence[Point],
    sizes: Sequence[Point],
    inside: Box,
    unit: float,
    below: tuple[int, int, int] | None,
) -> tuple[tuple[int, int, int], list[Point]] | None:
    """The cost of an order and its offsets; None as soon as the cost is not ``below`` that of the best so far."""
    taken = [_box(point, (11 * unit, 11 * unit)) for point in points]
    lines: list[Line] = []
    offsets: list[Point] = [(0.0, 0.0)] * len(points)
    total = (0, 0, 0)
    for i in order:
        best = (len(points) * 99, 0, 0)
        for rank, offset in enumerate(_around(sizes[i][0], unit)):
            line = (points[i], (points[i][0] + offset[0], points[i][1] + offset[1]))
            box = _box(line[1], sizes[i])
            covered = _covered(box, inside, taken)
            if covered > best[0]:
                continue
            cost = (covered, _crossed(line, box, taken, lines), rank)
            if cost < best:
                best, offsets[i] = cost, offset
            if best[:2] == (0, 0):
                break
        total = (total[0] + best[0], total[1] + best[1], total[2] + best[2])
        if below is not None and total >= below:
            return None
        line = (points[i], (points[i][0] + offsets[i][0], points[i][1] + offsets[i][1]))
        taken.append(_box(line[1], sizes[i]))
        lines.append(line)
    return total, offsets


def _covered(box: Box, inside: Box, taken: Sequence[Box]) -> int:
    """What a label in the box would cover; the border of the area counts as well."""
    covered = sum(_overlap(box, other) for other in taken)
    return covered + (not (inside[0] <= box[0] and inside[1] <= box[1] and box[2] <= inside[2] and box[3] <= inside[3]))


def _crossed(line: Line, box: Box, taken: Sequence[Box], lines: Sequence[Line]) -> int:
    """What line or label would be crossed by a label in the box, at the end of the line."""
    crossed = sum(_meets(line, other) for other in taken if not _holds(other, line[0]))
    return crossed + sum(_meets(other, box) + _cross(line, other) for other in lines)


def _around(width: float, unit: float) -> Iterator[Point]:
    """Places for a label's centre around a marker, the nearest first."""
    for ring in range(1, 14):
        for turn in (4, 12, 0, 8, 2, 6, 10, 14, 3, 5, 11, 13, 1, 7, 9, 15):  # above, below, beside, slanted
            angle = 2 * math.pi * turn / 16
            reach = (4 + 8 * ring) * unit
            yield math.cos(angle) * (reach + width / 2 - 4 * unit), math.sin(angle) * reach


def _box(centre: Point, size: Point) -> Box:
    return (
        centre[0] - size[0] / 2,
        centre[1] - size[1] / 2,
        centre[0] + size[0] / 2,
        centre[1] + size[1] / 2,
    )


def _holds(box: Box, point: Point) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _meets(line: Line, box: Box) -> bool:
    left, bottom, right, top = box
    diagonals = (((left, bottom), (right, top)), ((left, top), (right, bottom)))
    return _holds(box, line[0]) or _holds(box, line[1]) or any(_cross(line, diagonal) for diagonal in diagonals)


def _cross(one: Line, other: Line) -> bool:
    def side(line: Line, point: Point) -> bool:
        (x, y), (to_x, to_y) = line
        return (to_x - x) * (point[1] - y) > (to_y - y) * (point[0] - x)

    apart = one[0] != other[0]  # two markers in one place share their end
    return apart and side(one, other[0]) != side(one, other[1]) and side(other, one[0]) != side(other, one[1])
