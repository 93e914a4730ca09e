"""The mean of a network's weights that judges an epoch."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from conftest import make_training
from torch import nn

from nas_optuna.data import Digits
from nas_optuna.estimation import Classifier, Fidelity
from nas_optuna.estimation.averaging import SNAPSHOTS, WeightAverage, is_averaged
from nas_optuna.space import Architecture, Block, Stem

ARCHITECTURE = Architecture(Stem(8), (Block("conv", 16, 2, residual=True), Block("dwsep", 16)))
SHORT = Fidelity(3, data_share=0.5)


def make_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_network_has_the_mean_for_a_while_and_then_its_own_weights() -> None:
    average, network = WeightAverage(), make_network()
    states = []
    for _ in range(3):
        network(torch.rand(4, 1, 8, 8))
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(torch.rand_like(weight))
        average.add([network])
        states.append(state(network))
    with average.in_place(network):
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, torch.stack([each[name] for each in states]).mean(dim=0))
    torch.testing.assert_close(state(network), states[-1], rtol=0, atol=0)


def test_own_weights_come_back_after_an_error() -> None:
    average, network = WeightAverage(), make_network()
    average.add([network])
    with torch.no_grad():
        network[0].weight.zero_()

    def fail() -> None:
        with average.in_place(network):
            assert network[0].weight.any()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not network[0].weight.any()


def test_a_mean_forgets_the_one_before() -> None:
    average, network = WeightAverage(), make_network()
    for value in (1.0, 2.0):
        nn.init.constant_(network[0].weight, value)
        average.add([network])
        with average.in_place(network):
            assert (network[0].weight == value).all()


def test_nothing_averaged_leaves_the_weights() -> None:
    average, network = WeightAverage(), make_network()
    before = state(network)
    with average.in_place(network):
        torch.testing.assert_close(state(network), before, rtol=0, atol=0)


def test_statistics_are_the_mean_over_the_copies_too() -> None:
    average, network = WeightAverage(), make_network()
    twin = copy.deepcopy(network)
    nn.init.constant_(network[1].running_mean, 1.0)
    nn.init.constant_(twin[1].running_mean, 2.0)
    average.add([network, twin])
    with average.in_place(network):
        assert network[1].running_mean.tolist() == [1.5, 1.5]


@pytest.mark.parametrize("window", [0, 1, 5, 8, 9, 100, 1000])
def test_mean_spans_its_window_with_a_few_steps_of_equal_distance(window: int) -> None:
    chosen = [left for left in range(2000) if is_averaged(left, window)]
    assert len(chosen) <= SNAPSHOTS
    assert chosen == list(range(0, window, chosen[1] if len(chosen) > 1 else 1))
    # no larger distance would do
    assert len(chosen) > SNAPSHOTS // 2 or len(chosen) == window


def fit(digits: Digits, **changes: object) -> Classifier:
    return make_training(**changes).fit(ARCHITECTURE, digits, fidelity=SHORT, seed=0)


def test_epoch_is_judged_by_the_mean_of_the_weights_after_its_last_steps(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = make_training(averaged_share=0.2)
    network = training.build(ARCHITECTURE, digits, seed=0)
    monkeypatch.setattr(training, "build", lambda *_, **__: network)
    states: list[dict[str, torch.Tensor]] = []
    module = training.fit(
        ARCHITECTURE, digits, fidelity=SHORT, seed=0, stop=lambda: states.append(state(network))
    )
    steps = len(states)
    averaged = states[: 2 * steps // 3][-round(0.2 * steps) :]
    assert 1 < len(averaged) <= SNAPSHOTS
    mean = {name: torch.stack([each[name].float() for each in averaged]).mean(dim=0) for name in averaged[0]}
    network.load_state_dict(mean)
    split = digits.split("validation")
    with torch.inference_mode():
        hits = network.eval()(split.inputs / 255).argmax(dim=1) == split.labels
    assert module.curve[1] == pytest.approx(hits.float().mean().item())


def test_last_epoch_is_judged_by_the_weights_that_stay(digits: Digits) -> None:
    mean, last = fit(digits, averaged_share=0.5), fit(digits, averaged_share=0.0)
    assert mean.curve[:-1] != last.curve[:-1]
    assert mean.curve[-1] == last.curve[-1]
    torch.testing.assert_close(mean.network.state_dict(), last.network.state_dict(), rtol=0, atol=0)


def test_training_in_parts_is_judged_by_the_statistics_of_all_parts(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"execution": {"parts": 2}}
    last = fit(digits, **parts, averaged_share=0.0)
    # the mean over a single step holds what the parts have kept by then, merged
    averaged: list[int] = []
    add = WeightAverage.add

    def count(self: WeightAverage, networks: Sequence[nn.Module]) -> None:
        averaged.append(len(networks))
        add(self, networks)

    monkeypatch.setattr(WeightAverage, "add", count)
    one_step = fit(digits, **parts, averaged_share=0.03)
    assert averaged == [2, 2]
    assert one_step.curve == last.curve
