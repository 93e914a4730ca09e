"""What a depthwise-separable convolution saves against a standard one, counted and by the formula."""

from nas_optuna.space import Architecture, Block, LayerCosts, Stem, measure_costs

SIDE = 16  # of the features, in pixels


def costs(layer: str, kernel: int, width: int) -> LayerCosts:
    """Of one layer from so many channels to as many."""
    network = Architecture(Stem(width), (Block(layer, width, choices={"kernel": kernel}),))
    return measure_costs(network, input_shape=(3, SIDE, SIDE), classes=10).layers[1]


print("kernel channels     standard    separable  saves  formula  parameters: standard  separable")
for kernel in (3, 5):
    for width in (16, 32, 64, 128):
        standard, separable = costs("conv", kernel, width), costs("dwsep", kernel, width)
        assert standard.macs == kernel**2 * width * width * SIDE**2
        assert separable.macs == (kernel**2 * width + width * width) * SIDE**2
        print(
            f"{kernel:>6} {width:>8} {standard.macs:>12,} {separable.macs:>12,} "
            f"{standard.macs / separable.macs:>5.1f}x {1 / (1 / width + 1 / kernel**2):>7.1f}x "
            f"{standard.params:>21,} {separable.params:>10,}"
        )
