"""What must hold for every point of every space: random points, found by hypothesis."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import nas_optuna.conf
import optuna
import pytest
import torch
from conftest import compose_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nas_optuna.configuration import build
from nas_optuna.space import Architecture, Network, Space, measure_costs

SPACES = sorted(path.stem for path in (Path(nas_optuna.conf.__file__).parent / "space").glob("*.yaml"))
SHAPES = {1: (2, 40), 2: (3, 16, 16)}

few = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@functools.cache
def load(name: str, encoding: str = "flat") -> Space:
    space = build(compose_config(f"space={name}", f"space.encoding={encoding}"), "space")
    assert isinstance(space, Space)
    return space


def point(draw: st.DataObject, space: Space) -> dict[str, object]:
    open_choices = {name: choice for name, choice in space.decisions.items() if choice.is_open}
    return {name: draw.draw(st.sampled_from(choice.options)) for name, choice in open_choices.items()}


def network_of(architecture: Architecture, channels: int) -> Network:
    return Network(architecture, classes=10, mean=[0.5] * channels, std=[0.25] * channels)


@pytest.mark.parametrize("name", SPACES)
@few
@given(data=st.data())
def test_network_runs_forward_and_backward(name: str, data: st.DataObject) -> None:
    space = load(name)
    shape = SHAPES[space.dimensions]
    network = network_of(space.at(point(data, space)).canonical(), shape[0])
    logits = network(torch.rand(2, *shape))
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert network.head.linear.weight.grad is not None


@pytest.mark.parametrize("name", SPACES)
@few
@given(data=st.data())
def test_architecture_survives_json_with_its_hash(name: str, data: st.DataObject) -> None:
    space = load(name)
    architecture = space.at(point(data, space))
    copy = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert copy == architecture
    assert copy.hash == architecture.hash


@pytest.mark.parametrize("name", SPACES)
@few
@given(data=st.data())
def test_canonical_form_is_its_own(name: str, data: st.DataObject) -> None:
    space = load(name)
    canonical = space.at(point(data, space)).canonical()
    assert canonical.canonical() == canonical
    assert canonical.hash == space.at(space.encode(canonical) or {}).hash


@pytest.mark.parametrize("name", sorted(set(SPACES) - {"nasbench201"}))
@few
@given(data=st.data())
def test_canonical_form_costs_the_same(name: str, data: st.DataObject) -> None:
    # but for cells, whose table counts operations that do not reach the output
    space = load(name)
    shape = SHAPES[space.dimensions]
    architecture = space.at(point(data, space))
    said, canonical = (
        measure_costs(found, input_shape=shape, classes=10)
        for found in (architecture, architecture.canonical())
    )
    assert (said.macs, said.params, said.size) == (canonical.macs, canonical.params, canonical.size)


@pytest.mark.parametrize("name", SPACES)
@few
@given(data=st.data())
def test_costs_equal_an_independent_counter(name: str, data: st.DataObject) -> None:
    space = load(name)
    shape = SHAPES[space.dimensions]
    architecture = space.at(point(data, space))
    costs = measure_costs(architecture, input_shape=shape, classes=10)
    network = network_of(architecture, shape[0]).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, *shape))
    # torch counts a multiplication and an addition as two
    assert costs.macs == counter.get_total_flops() / 2
    assert costs.params == sum(parameter.numel() for parameter in network.parameters())
    state = network.state_dict().values()
    assert costs.size == sum(tensor.numel() * tensor.element_size() for tensor in state)


@pytest.mark.parametrize("name", SPACES)
@few
@given(data=st.data())
def test_both_encodings_give_the_same_network(name: str, data: st.DataObject) -> None:
    values = point(data, load(name))
    trials = {}
    for encoding in ("flat", "conditional"):
        study = optuna.create_study()
        study.enqueue_trial(values)
        trial = study.ask()
        trials[encoding] = (load(name, encoding)(trial), trial.params)
    assert trials["flat"][0] == trials["conditional"][0]
    assert trials["flat"][1] == values
    assert trials["conditional"][1].items() <= values.items()
    assert trials["conditional"][1].keys() == values.keys() - load(name).void(values)


@pytest.mark.parametrize("name", SPACES)
@few
@given(data=st.data())
def test_void_decisions_change_nothing(name: str, data: st.DataObject) -> None:
    space = load(name)
    values, others = point(data, space), point(data, space)
    void = space.void(values)
    assert space.at(values | {decision: others[decision] for decision in void}) == space.at(values)


@pytest.mark.parametrize("name", SPACES)
def test_distributions_are_what_a_flat_trial_is_asked(name: str) -> None:
    space = load(name)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    space(trial)
    assert trial.distributions == space.distributions()


@pytest.mark.parametrize("name", SPACES)
def test_space_is_counted_exactly(name: str) -> None:
    size = load(name).size()
    assert size.exact
    assert 1 < size.networks <= load(name).points
