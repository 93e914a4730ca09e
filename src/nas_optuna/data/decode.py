"""Data: from an image file to a network's pixels; an exported network carries these lines along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def read_image(path: str | Path, *, height: int, width: int, mode: str) -> NDArray[np.uint8]:
    """Pixels (C, H, W) of an image file: upright, on white, scaled until it covers the area, and cut to it.

    Args:
        path: A file in any format that Pillow reads.
        height, width: In pixels.
        mode: ``RGB`` or ``L`` (grey).
    """
    with Image.open(path) as image:
        # lets JPEG decode large photos at a fraction of their size
        image.draft(None, (width, height))
        area = ImageOps.fit(flatten(ImageOps.exif_transpose(image)), (width, height))
        pixels = np.asarray(area.convert(mode)).reshape(height, width, -1)
    return np.moveaxis(pixels, -1, 0)


def flatten(image: Image.Image) -> Image.Image:
    """Lay transparent images on white and bring 16 bits down to 8."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode in ("1", "P"):
        # neither can hold the shades between two pixels, which scaling makes
        return image.convert("RGB")
    if image.mode.startswith("I"):
        # Pillow would cut values above 255 off
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return image
