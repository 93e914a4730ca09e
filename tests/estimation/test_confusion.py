from __future__ import annotations

import torch

from nas_optuna.estimation.confusion import Confusion


def test_examples_are_counted_by_class_and_by_what_they_are_taken_for_over_batches() -> None:
    confusion = Confusion()
    confusion.add(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    confusion.add(torch.tensor([[0.0, 1.0]]), torch.tensor([1]))
    assert confusion.rows() == [[1, 1], [0, 1]]


def test_output_that_is_no_number_is_taken_for_nothing_so_nothing_is_told() -> None:
    confusion = Confusion()
    confusion.add(torch.tensor([[2.0, float("nan")]]), torch.tensor([0]))
    assert confusion.rows() is None


def test_many_classes_are_not_counted() -> None:
    confusion = Confusion()
    confusion.add(torch.zeros(3, 101), torch.tensor([0, 1, 2]))
    assert confusion.rows() is None
    assert Confusion().rows() is None
