from __future__ import annotations

from xml.etree import ElementTree

import pytest

from nas_optuna.space import Architecture, Block, NasBench201, Parts, Stem, measure_costs
from nas_optuna.space.diagram import draw
from nas_optuna.space.separable import saved_by

SVG = "{http://www.w3.org/2000/svg}"


def texts(architecture: Architecture, shape: tuple[int, ...] = (3, 16, 16)) -> list[str]:
    picture = ElementTree.fromstring(draw(architecture, input_shape=shape, classes=10))
    return ["".join(element.itertext()) for element in picture.iter(f"{SVG}text")]


def test_every_block_stands_with_its_shape_and_costs() -> None:
    architecture = Architecture(
        Stem(8),
        (
            Block("dwsep", 16, 2, downsampling="maxpool", choices={"kernel": 5}),
            Block("mbconv", 16, choices={"kernel": 3, "expansion": 4, "squeeze_excite": True}),
        ),
    )
    said = texts(architecture)
    for words in ("stem 3 × 3", "dwsep 5 × 5", "stride 2 by maxpool", "expansion 4, squeeze-excite"):
        assert words in said
    for layer in measure_costs(architecture, input_shape=(3, 16, 16), classes=10).layers:
        shape = " × ".join(map(str, layer.output_shape))
        assert {shape, f"{layer.params:,}", f"{layer.macs:,}"} <= set(said)


def test_residual_connections_go_around_their_blocks() -> None:
    def lines(residual: bool) -> int:
        architecture = Architecture(Stem(8), (Block("conv", 8, residual=residual),) * 2)
        return draw(architecture, input_shape=(3, 8, 8), classes=10).count('class="line"')

    assert lines(True) - lines(False) == 2


def test_equal_blocks_in_a_row_are_drawn_once_and_their_costs_added() -> None:
    said = texts(Architecture(Stem(8), (Block("conv", 8, choices={"kernel": 3}),) * 4))
    assert "4 times conv 3 × 3" in said
    assert f"{4 * (8 * 8 * 9 + 16):,}" in said


def test_cell_is_drawn_with_its_operations() -> None:
    space = NasBench201()
    operations = ("conv3x3", "skip", "conv1x1", "avgpool3x3", "none", "conv1x1")
    said = texts(space.at(dict(zip(space.decisions, operations, strict=True))))
    assert said.count("conv1x1") == 2
    assert {"in", "1", "2", "out", "conv3x3", "skip", "avgpool3x3", "5 times cell"} <= set(said)
    assert "none" not in said


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("downsampling", ["stride", "maxpool"])
@pytest.mark.parametrize("residual", [False, True])
def test_a_separable_block_saves_what_a_standard_one_costs_more(
    dimensions: int, norm: str, downsampling: str, residual: bool
) -> None:
    shape = (3, 17, 18)[: 1 + dimensions]
    costs = {}
    for layer in ("conv", "dwsep"):
        block = Block(layer, 24, 2, residual, downsampling, {"kernel": 5})
        architecture = Architecture(Stem(8), (block,), parts=Parts(dimensions, "relu", norm))
        costs[layer] = measure_costs(architecture, input_shape=shape, classes=10)
    saved = saved_by(block, 8, costs["dwsep"].layers[1].output_shape, architecture.parts)
    assert saved is not None
    assert saved.params == costs["conv"].params - costs["dwsep"].params
    assert saved.macs == costs["conv"].macs - costs["dwsep"].macs
    if not residual:
        assert saved.standard_params == costs["conv"].layers[1].params
        assert saved.standard_macs == costs["conv"].layers[1].macs


def test_diagram_says_what_separable_blocks_save() -> None:
    blocks = (Block("conv", 16, choices={"kernel": 3}),) + (Block("dwsep", 16, choices={"kernel": 3}),) * 3
    said = texts(Architecture(Stem(8), blocks))
    # three times 9 * 16 * 16 weights for 9 * 16 + 16 * 16 and the norm between
    assert said.count("below conv") == 1
    assert f"−{3 * (2304 - 400 - 32):,} ({3 * 1872 / (3 * 2336):.0%})" in said
    assert f"−{3 * 1904 * 256 / 1e6:,.1f}M ({1904 / 2304:.0%})" in said


def test_a_separable_block_that_costs_more_says_so() -> None:
    said = texts(Architecture(Stem(8), (Block("dwsep", 1, choices={"kernel": 3}),)))
    assert any(text.startswith("+") for text in said)
