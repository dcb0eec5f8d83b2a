import io

import numpy as np
import pytest
from PIL import Image

from tools.screenshots import MAX_BYTES, WIDTH, ScreenshotError, compress


def png(pixels: "np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]") -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def test_an_image_keeps_its_size_and_becomes_small() -> None:
    shades = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8)[None, :, None], (900, 1, 3))
    compressed = compress(png(shades))
    assert len(compressed) <= MAX_BYTES
    with Image.open(io.BytesIO(compressed)) as image:
        assert image.size == (WIDTH, 900)


def test_an_image_that_cannot_be_compressed_is_rejected() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, WIDTH, 3), dtype=np.uint8)
    with pytest.raises(ScreenshotError, match="Show less of the page"):
        compress(png(noise))
