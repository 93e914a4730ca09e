from __future__ import annotations

import pytest
import torch

from nas_optuna.errors import InputError
from nas_optuna.space import Architecture, Block, Network, Parts, Stem
from nas_optuna.space.latency import FORMS, Latency, _half_width, measure_latency


def network(dimensions: int = 2) -> Network:
    architecture = Architecture(Stem(8), (Block("dwsep", 8),), parts=Parts(dimensions))
    return Network(architecture, classes=3, mean=[0.5], std=[0.5])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 16)])
def test_latency_says_how_it_was_measured(form: str, shape: tuple[int, ...]) -> None:
    latency = measure_latency(
        network(len(shape) - 1),
        input_shape=shape,
        batch_size=4,
        threads=1,
        form=form,
        seconds=0.01,
        repeats=7,
    )
    assert 0 < latency.low <= latency.median <= latency.high
    assert latency.repeats >= 7
    assert (latency.batch_size, latency.threads, latency.device, latency.form) == (4, 1, "cpu", form)


def test_network_is_run_so_often_without_gradients_in_evaluation_mode() -> None:
    judged, seen = network(), []
    judged.register_forward_hook(
        lambda module, _, logits: seen.append((module.training, logits.requires_grad, logits.shape[0]))
    )
    latency = measure_latency(judged, input_shape=(1, 8, 8), batch_size=2, warm_up=3, seconds=0, repeats=5)
    assert latency.repeats == 5
    assert seen == [(False, False, 2)] * 8


def test_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    measure_latency(network(), input_shape=(1, 8, 8), threads=before + 1, seconds=0, repeats=2)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0"),
        ({"threads": 0}, "threads: 0"),
        ({"form": "onnx"}, "form: 'onnx' is unknown; known: eager, exported"),
        ({"device": "mps"}, "device: this machine"),
    ],
)
def test_wrong_request_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_latency(network(), input_shape=(1, 8, 8), **options)


def test_other_forms_can_be_measured() -> None:
    asked = []

    def twice(module: torch.nn.Module, inputs: torch.Tensor, threads: int) -> object:
        asked.append((tuple(inputs.shape), threads))
        return lambda batch: module(module(batch).new_zeros(2, 1, 8, 8))

    latency = measure_latency(
        network(),
        input_shape=(1, 8, 8),
        batch_size=2,
        threads=1,
        form="twice",
        forms={"twice": twice},
        seconds=0,
        repeats=2,
    )
    assert latency.form == "twice"
    assert asked == [((2, 1, 8, 8), 1)]


def test_precision_of_the_low_quantile_is_that_of_its_neighbours() -> None:
    assert _half_width([1.0] * 50) == 0
    even = [1.0 + index / 100 for index in range(100)]
    assert 0 < _half_width(even * 10) < _half_width(even)
    # what is slow now and then says nothing against it
    assert _half_width([1.0] * 60 + [9.0] * 40) == 0


def test_what_disturbs_half_of_the_batches_does_not_count() -> None:
    latency = Latency(
        low=1e-3, median=5e-3, high=9e-3, repeats=9, batch_size=1, threads=1, device="cpu", form="eager"
    )
    assert latency.milliseconds == 1.0
    assert str(latency) == "1 ms (median 5, nine tenths below 9)"
