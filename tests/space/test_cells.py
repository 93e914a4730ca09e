from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from nas_optuna.space import Architecture, Block, Stem
from nas_optuna.space.cells import EDGES, OPERATIONS, Cell, simplest_operations
from nas_optuna.space.parts import Parts

# weights for the six edges in every order
ORDERS = np.array(list(itertools.permutations([0.31, 0.47, 0.73, 1.1, 1.37, 1.9])))


def invariant(names: tuple[str, ...]) -> tuple[float, ...]:
    """Moments of what a cell computes, over all ways of giving it weights: equal for equal cells.

    Operations are replaced by functions that keep what matters: convolutions by different functions
    of a weight and the input that are zero at zero, the pool by one without a weight.
    """
    nodes = [np.full(len(ORDERS), 0.7)]
    for node in (1, 2, 3):
        total: NDArray[np.float64] = np.zeros(len(ORDERS))
        for edge, ((start, end), name) in enumerate(zip(EDGES, names, strict=True)):
            value, weight = nodes[start] if end == node else None, ORDERS[:, edge]
            if value is None or name == "none":
                continue
            total = (
                total
                + {
                    "skip": value,
                    "conv1x1": np.sin(weight * value),
                    "conv3x3": np.tanh(weight**2 * value * 1.3),
                    "avgpool3x3": 0.6180339 * value + 0.1 * value**2,
                }[name]
            )
        nodes.append(total)
    return tuple(round(float((nodes[-1] ** power).mean()), 9) for power in (1, 2, 3))


def test_cells_are_told_apart_exactly_where_they_compute_something_else() -> None:
    # an independent way: 15,625 cells evaluated, not simplified
    cells = list(itertools.product(OPERATIONS, repeat=len(EDGES)))
    pairs = {(simplest_operations(",".join(names)), invariant(names)) for names in cells}
    assert len(pairs) == len({simple for simple, _ in pairs}) == len({seen for _, seen in pairs}) == 5260


def test_simplest_cell_has_no_operation_that_does_not_reach_the_output() -> None:
    dead_end = "conv3x3,none,none,skip,none,none"
    works_on_nothing = "none,none,conv3x3,skip,conv1x1,none"
    for cell in (dead_end, works_on_nothing):
        assert simplest_operations(cell) == ("none", "none", "none", "skip", "none", "none")


def test_two_convolutions_with_weights_of_their_own_are_not_one() -> None:
    shared = "conv3x3,none,skip,none,skip,skip"  # one convolution, taken twice
    separate = "conv3x3,conv3x3,none,none,skip,skip"
    assert simplest_operations(shared) != simplest_operations(separate)


def test_cell_that_only_passes_its_input_on_is_left_out() -> None:
    skip = Block("cell", 8, choices={"operations": "none,none,none,skip,none,none"})
    assert Architecture(Stem(8), (skip,)).canonical().blocks == ()


def test_convolution_of_a_cell_stands_between_an_activation_and_a_norm() -> None:
    cell = Cell(4, 4, parts=Parts(), operations="none,none,none,conv3x3,none,none")
    assert [type(module).__name__ for module in cell.edges["0_3"]] == ["ReLU", "Conv2d", "BatchNorm2d"]


def test_cell_sums_what_its_edges_bring() -> None:
    torch.manual_seed(0)
    cell = Cell(4, 4, parts=Parts(), operations="conv3x3,skip,conv1x1,none,avgpool3x3,skip").eval()
    features = torch.randn(2, 4, 6, 6)
    first = cell.edges["0_1"](features)
    second = features + cell.edges["1_2"](first)
    pooled = torch.nn.functional.avg_pool2d(first, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(cell(features), pooled + second)
