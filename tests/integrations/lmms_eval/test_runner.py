"""The runner, which cannot import this package, gives models the pictures that the package gives them."""

import numpy as np
import pytest
from PIL import Image

from safeeraser.data.images import to_rgb
from safeeraser.integrations.lmms_eval.runner import _rgb


def noise(mode: str) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 4))
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16))
    return Image.fromarray((values // 257).astype(np.uint8), "RGBA").convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "CMYK", "I;16"])
@pytest.mark.parametrize("orientation", [None, 6])
def test_pictures_are_those_of_the_package(mode: str, orientation: int | None) -> None:
    picture = noise(mode)
    if orientation:
        picture.getexif()[0x0112] = orientation
    assert _rgb(picture).tobytes() == to_rgb(picture).tobytes()
    assert _rgb(picture).size == ((5, 7) if orientation else (7, 5))
