from __future__ import annotations

from typing import Any

import optuna
import pytest

from nas_optuna.errors import InputError
from nas_optuna.space.choice import parse_choice, parse_integers


def test_range_is_asked_as_ordered_integers() -> None:
    trial = optuna.create_study().ask()
    value = parse_choice("key", {"low": 8, "high": 32, "step": 8}).suggest(trial, "width")
    assert value in (8, 16, 24, 32)
    assert trial.distributions["width"] == optuna.distributions.IntDistribution(8, 32, step=8)


@pytest.mark.parametrize(
    ("text", "options"),
    [("1..3", (1, 2, 3)), ("16..32 by 8", (16, 24, 32)), (" 3 .. 7 by 2 ", (3, 5, 7)), ("4..4", (4,))],
)
def test_range_may_be_a_word(text: str, options: tuple[int, ...]) -> None:
    assert parse_choice("key", text).options == options


def test_list_of_integers_in_equal_steps_is_a_range() -> None:
    assert parse_choice("key", [3, 5, 7]) == parse_choice("key", {"low": 3, "high": 7, "step": 2})


@pytest.mark.parametrize("options", [[3, 5, 9], [5, 3], [True, False], [1.0, 2.0]])
def test_other_lists_have_no_order(options: list[Any]) -> None:
    assert parse_choice("key", options).step is None


def test_list_is_asked_as_categories() -> None:
    trial = optuna.create_study().ask()
    assert parse_choice("key", ["conv", "dwsep"]).suggest(trial, "layer") in ("conv", "dwsep")
    assert trial.distributions["layer"] == optuna.distributions.CategoricalDistribution(("conv", "dwsep"))


@pytest.mark.parametrize("fixed", [3, [3], {"low": 3, "high": 3}])
def test_single_option_is_not_asked(fixed: Any) -> None:
    trial = optuna.create_study().ask()
    assert parse_choice("key", fixed).suggest(trial, "kernel") == 3
    assert not trial.params


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ([], "empty list"),
        (None, "empty"),
        ([3, 3], "repeats"),
        ({"low": 5, "high": 3}, "low 5 is above high 3"),
        ("5..3", "low 5 is above high 3"),
        ("1..4 by 2", "use high 3 or 5"),
        ("1..4 by 0", "at least 1"),
        ("1..x", r"'1\.\.x' must be low\.\.high or low\.\.high by step"),
        ("1...4", "must be low"),
        ({"low": 1, "high": 4, "step": 2}, "use high 3 or 5"),
        ({"low": 1, "high": 4, "step": 0}, "at least 1"),
        ({"low": 1.5, "high": 4}, "whole number"),
        ({"low": 1}, "low, high"),
        ({"low": 1, "high": 2, "setp": 1}, "low, high"),
    ],
)
def test_impossible_range_names_key_and_rule(value: Any, rule: str) -> None:
    with pytest.raises(InputError, match=f"space.key.*{rule}"):
        parse_choice("space.key", value)


def test_options_below_the_minimum_are_refused() -> None:
    with pytest.raises(InputError, match="width: 0 must be a whole number, at least 1"):
        parse_integers("width", [8, 0], minimum=1)
