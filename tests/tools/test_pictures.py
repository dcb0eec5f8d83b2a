import io

import numpy as np
import pytest
from PIL import Image

from tools.pictures import LARGEST, WIDTH, PicturesError, small


def png(pixels: "np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]") -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def test_a_picture_keeps_its_size_and_becomes_few_bytes() -> None:
    shades = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None], (900, 1, 3))
    made = small(png(shades))
    assert len(made) <= LARGEST
    with Image.open(io.BytesIO(made)) as picture:
        assert picture.size == (WIDTH, 900)


def test_a_picture_that_cannot_be_small_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, WIDTH, 3), dtype=np.uint8)
    with pytest.raises(PicturesError, match="Show less of the page"):
        small(png(noise))
