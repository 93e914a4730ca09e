from __future__ import annotations

from xml.etree import ElementTree

from nas_optuna.space import Architecture, Block, NasBench201, Stem, measure_costs
from nas_optuna.space.diagram import draw

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
