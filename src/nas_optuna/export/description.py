"""Export: what travels with a network: its classes, the shape of its input, and how an image becomes one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from nas_optuna.errors import InputError
from nas_optuna.space import Network

FORMAT = 1
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Description:
    """Everything about an exported network but its weights.

    Attributes:
        summary: The architecture in one line.
        input_shape: Channels, then height and width, or length.
        classes: Names of the classes, in the order of the logits.
        preprocessing: From a file to the input, in words; the network normalises its input itself.
        format: Version of this layout.
    """

    summary: str
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    preprocessing: str
    format: int = FORMAT

    @property
    def mode(self) -> str | None:
        """How Pillow calls the network's colours; None where it does not see images."""
        return _MODES.get(self.input_shape[0]) if len(self.input_shape) == 3 else None

    def to_json(self) -> str:
        """As text that ``from_json`` reads."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Description:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: It is something else.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError("its description is not in the format that this version reads")
        try:
            shape, classes = tuple(map(int, values["input_shape"])), tuple(map(str, values["classes"]))
            return Description(values["summary"], shape, classes, values["preprocessing"])
        except (KeyError, TypeError) as error:
            raise ValueError("its description is incomplete") from error


def describe(network: Network) -> Description:
    """The description of a network that was loaded or trained.

    Raises:
        InputError: It does not know its classes.
    """
    shape, classes = getattr(network, "input_shape", None), getattr(network, "classes", None)
    if shape is None or classes is None:
        raise InputError(
            "the network has no input_shape and classes: load it with nas_optuna.load, or set both."
        )
    words = "a series as it was trained on, normalised inside the network"
    if len(shape) == 3:
        colours = "RGB" if shape[0] == 3 else "grey" if shape[0] == 1 else f"{shape[0]} channels"
        words = (
            f"upright, transparency on white, {colours}, scaled to cover {shape[1]} x {shape[2]} pixels "
            "(height x width) and cut to it in the middle, divided by 255, normalised inside the network"
        )
    return Description(str(network.architecture), tuple(shape), tuple(classes), words)
