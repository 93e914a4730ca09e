"""Parts of a batch, computed side by side."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
import torch.nn.functional as F
from conftest import make_training
from torch import Tensor, nn

from nas_optuna.data import Digits
from nas_optuna.estimation import Classifier, Execution, Fidelity, replicas
from nas_optuna.estimation.replicas import Replicas, Team, draws_numbers
from nas_optuna.space import Architecture, Block, Stem

ARCHITECTURE = Architecture(Stem(8), (Block("conv", 16, 2, residual=True), Block("dwsep", 16)))


@pytest.fixture
def four_threads() -> None:
    torch.set_num_threads(4)


def batch(images: int = 16) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.rand(images, 1, 8, 8, generator=random), torch.randint(10, (images,), generator=random)


def loss(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(network(inputs), labels)


def gradients(network: nn.Module) -> list[Tensor]:
    return [weight.grad.clone() for weight in network.parameters() if weight.grad is not None]


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


@pytest.mark.parametrize("images", [16, 15, 7, 3])
def test_parts_give_the_gradients_and_the_loss_of_the_batch(images: int) -> None:
    network, inputs_and_labels = convolution(), batch(images)
    whole = loss(network, *inputs_and_labels)
    whole.backward()
    expected = gradients(network)
    network.zero_grad()
    found = Replicas(network, Team(3)).backward(loss, *inputs_and_labels)
    torch.testing.assert_close(found, whole.detach())
    torch.testing.assert_close(gradients(network), expected)


def test_parts_see_what_an_optimizer_did() -> None:
    network, (inputs, labels) = convolution(), batch()
    pair = Replicas(network, Team(2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    losses = []
    for _ in range(4):
        losses.append(float(pair.backward(loss, inputs, labels)))
        optimizer.step()
        network.zero_grad()
        torch.testing.assert_close(
            pair.backward(loss, inputs, labels), loss(network, inputs, labels).detach()
        )
        network.zero_grad()
    assert losses == sorted(losses, reverse=True)


def test_a_part_is_normalised_by_its_own_statistics(digits: Digits) -> None:
    network, (inputs, labels) = make_training().build(ARCHITECTURE, digits, seed=0).train(), batch()
    alone = [copy.deepcopy(network) for _ in range(2)]
    halves = list(zip(alone, inputs.chunk(2), labels.chunk(2), strict=True))
    mean = torch.stack([loss(*half).detach() for half in halves]).mean()
    torch.testing.assert_close(Replicas(network, Team(2)).backward(loss, inputs, labels), mean)


def test_merged_statistics_are_the_mean_of_the_parts(digits: Digits) -> None:
    network, (inputs, labels) = make_training().build(ARCHITECTURE, digits, seed=0).train(), batch()
    alone = [copy.deepcopy(network) for _ in range(2)]
    pair = Replicas(network, Team(2))
    for _ in range(2):  # the copies go on from what was merged
        for other, part in zip(alone, inputs.chunk(2), strict=True):
            other(part)
        pair.backward(loss, inputs, labels)
        pair.merge()
        for kept, first, second in zip(*(model.buffers() for model in (network, *alone)), strict=True):
            expected = (first + second) / 2 if kept.is_floating_point() else first
            torch.testing.assert_close(kept, expected)
            first.copy_(expected)
            second.copy_(expected)


@pytest.mark.usefixtures("four_threads")
def test_members_share_the_threads_and_leave_the_others_theirs() -> None:
    team, late = Team(2), []
    assert team.map(lambda _: torch.get_num_threads(), range(2)) == [2, 2]
    assert torch.get_num_threads() == 4
    thread = threading.Thread(target=lambda: late.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert late == [4]


def test_members_work_at_the_same_time() -> None:
    everyone = threading.Barrier(2)
    assert sorted(Team(2).map(lambda _: everyone.wait(60), range(2))) == [0, 1]


def test_training_in_parts_learns_and_repeats_itself(digits: Digits) -> None:
    def fit() -> Classifier:
        training = make_training(execution={"parts": 2})
        return training.fit(ARCHITECTURE, digits, fidelity=Fidelity(6), seed=0)

    first, second = fit(), fit()
    assert first.curve[-1] > 0.8
    assert first.curve == second.curve
    for weight, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(weight, other)


def test_network_is_judged_in_parts_as_it_is_whole(digits: Digits) -> None:
    training = make_training(execution={"parts": 2})
    module = training.fit(ARCHITECTURE, digits, fidelity=Fidelity(1), seed=0)
    split = digits.split("validation")
    module.eval()
    with torch.inference_mode():
        logits = module(split.inputs / 255)
        torch.testing.assert_close(module.infer(split.inputs / 255), logits)
    hits = logits.argmax(dim=1) == split.labels
    assert module.curve[-1] == pytest.approx(hits.float().mean().item())


class Dropped(nn.Module):
    """Draws numbers in training mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.dropout(self.linear(inputs.flatten(1)), 0.5, self.training)


@pytest.mark.parametrize(("network", "draws"), [(Dropped(), True), (convolution(), False)])
def test_networks_that_draw_numbers_are_known(network: nn.Module, draws: bool) -> None:
    before = torch.get_rng_state()
    assert draws_numbers(network, batch()[0]) is draws
    assert torch.equal(before, torch.get_rng_state())


def test_network_that_draws_numbers_is_trained_as_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr(replicas.Team, "__init__", lambda _, size: made.append(size))
    module = Classifier(Dropped(), make_training().recipe, steps=10, execution=Execution(parts=2))
    module.descent(module.configure_optimizers())(batch())
    assert module.execution.parts == 1
    assert made == []


def test_small_batch_is_cut_into_no_more_parts_than_it_has_pairs(digits: Digits) -> None:
    network, execution = make_training().build(ARCHITECTURE, digits, seed=0), Execution(parts=8)
    module = Classifier(network, make_training().recipe, steps=10, execution=execution)
    module.descent(module.configure_optimizers())(batch(6))
    assert module.execution.parts == 3
