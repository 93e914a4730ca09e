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
    inside = sorted((point for point in points if _is_below(point, reference)), key=lambda point: point[-1])
    if len(reference) == 1:
        return reference[0] - inside[0][0] if inside else 0.0
    if len(reference) == 2:
        return _area(inside, reference)
    volume = 0.0
    ends = [*(point[-1] for point in inside[1:]), reference[-1]]
    for index, (point, end) in enumerate(zip(inside, ends, strict=True)):
        if end > point[-1]:
            beneath = [known[:-1] for known in inside[: index + 1]]
            volume += hypervolume(beneath, reference[:-1]) * (end - point[-1])
    return volume


def _area(points: Sequence[Point], reference: Point) -> float:
    """Of points on two axes in the order of the second: each that is better on the first adds a strip."""
    area, reached = 0.0, reference[0]
    for first, second in points:
        if first < reached:
            area += (reached - first) * (reference[1] - second)
            reached = first
    return area


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other one beats, each once. Less is better on every axis."""
    found: list[Point] = []
    for point in sorted(set(points)):
        # in this order a later point beats no earlier one
        if not is_dominated(point, found):
            found.append(point)
    return found


def is_dominated(point: Point, others: Sequence[Point]) -> bool:
    """Whether another point is at least as good on every axis."""
    return any(all(one <= value for one, value in zip(other, point, strict=True)) for other in others)


def _is_below(point: Point, reference: Point) -> bool:
    return all(value < most for value, most in zip(point, reference, strict=True))
