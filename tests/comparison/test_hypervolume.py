"""The volume that a front dominates."""

from __future__ import annotations

import numpy as np
import pytest

from nas_optuna.comparison import hypervolume


def test_volume_of_one_point_is_its_box() -> None:
    assert hypervolume([(0.5, 0.25)], (1.0, 1.0)) == pytest.approx(0.375)


def test_points_beyond_the_reference_count_nothing() -> None:
    assert hypervolume([(0.5, 1.0), (2.0, 0.0)], (1.0, 1.0)) == 0.0


def test_what_is_dominated_adds_nothing() -> None:
    assert hypervolume([(0.5, 0.5), (0.6, 0.7), (0.5, 0.5)], (1.0, 1.0)) == pytest.approx(0.25)


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_volume_is_the_share_of_random_points_that_are_dominated(axes: int) -> None:
    random = np.random.default_rng(axes)
    points = random.random((8, axes)) ** 0.5
    drawn = random.random((50_000, axes))
    dominated = (points[:, None] <= drawn).all(axis=2).any(axis=0).mean()
    assert hypervolume([tuple(point) for point in points], (1.0,) * axes) == pytest.approx(
        dominated, abs=0.01
    )
