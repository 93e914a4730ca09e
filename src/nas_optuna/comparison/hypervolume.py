"""Comparison: how much of a box the networks of a front dominate."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, ...]


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Volume between points and a reference, by slices along the last axis (Zitzler and Thiele 1998).

    Args:
        points: Less is better on every axis; what is not below the reference on all counts nothing.
        reference: One value an axis.
    """
    inside = [point for point in points if _is_below(point, reference)]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return reference[0] - min(inside)[0]
    volume = 0.0
    kept: list[Point] = []
    inside.sort(key=lambda point: point[-1])
    for index, point in enumerate(inside):
        kept = front([*kept, point[:-1]])
        end = inside[index + 1][-1] if index + 1 < len(inside) else reference[-1]
        if end > point[-1]:
            volume += hypervolume(kept, reference[:-1]) * (end - point[-1])
    return volume


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats, each once. Less is better on every axis."""
    found: list[Point] = []
    for point in sorted(set(points)):
        # in this order a later point beats no earlier one
        if not any(all(one <= other for one, other in zip(known, point, strict=True)) for known in found):
            found.append(point)
    return found


def _is_below(point: Point, reference: Point) -> bool:
    return all(value < most for value, most in zip(point, reference, strict=True))
