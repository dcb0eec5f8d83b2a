import io
from pathlib import Path

import pytest
from PIL import Image
from PIL.WebPImagePlugin import WebPImageFile

from tools.trust_court_animation import FRAME_MS, LAST_MS, MAX_BYTES, PATHS, animation


def test_an_animation_repeats_and_shows_its_last_image_longer() -> None:
    written = animation([Image.new("RGB", (40, 30), (shade, 0, 0)) for shade in (0, 120, 240)])
    durations = []
    with WebPImageFile(io.BytesIO(written)) as found:
        assert found.info["loop"] == 0
        for place in range(found.n_frames):
            found.seek(place)
            found.load()
            durations.append(found.info["duration"])
    assert durations == [FRAME_MS, FRAME_MS, LAST_MS]


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_animation_of_a_readme_has_an_image_per_season_and_is_small(path: Path) -> None:
    assert path.stat().st_size <= MAX_BYTES
    with WebPImageFile(path) as found:
        assert found.n_frames == 20
