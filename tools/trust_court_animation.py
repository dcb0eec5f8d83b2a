"""The moving trust court of the README, in both languages: ``python -m tools.trust_court_animation``.

Run it after ``make main`` on the public files. It shows the labeled shots that the champion was not trained on, season
after season: the test rows of the two-point shots, and the three-point shots.
"""

import io
from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from data.cli.config import CommandConfig, run_command
from data.cli.console import console, info
from data.datasets import Dataset, current, processed_folder, raw_folder
from data.errors import KobeShotError
from data.paths import ROOT
from data.preparation.manifest import IDS, TRAIN
from data.storage.dataset_reader import DatasetReader
from data.storage.files import atomic_write
from data.storage.tables import TableReader
from monitor.charts import trust_court_image
from monitor.charts.trust_court import TrustCourt, trust_court
from monitor.drift.training_support import Support
from monitor.portuguese import numbers
from monitor.reports.pipeline.plot_texts import localize
from monitor.store.model_store import current_store
from monitor.store.shots import SEASON
from serving.batch.in_process import dataset_of, predict

PATHS = {
    "en": ROOT / "docs" / "images" / "trust-court.webp",
    "pt": ROOT / "docs" / "images" / "trust-court.pt-BR.webp",
}
"""The animation of each language."""
MAX_BYTES = 1_500_000
WIDTH = 880
"""Width of the animation, pixels."""
FRAME_MS, LAST_MS = 450, 4000
"""Duration of a frame, and of the last one, in milliseconds."""

_TITLES = {"en": "Where can P(made) be trusted?", "pt": "Onde se pode confiar em P(cesta)?"}
_SUBTITLES = {
    "en": "{first} to {season}: {shots:,} labeled shots, none in the training data, {outside:.0%} out of support",
    "pt": "{first} a {season}: {shots:,} arremessos com rótulo, nenhum do treino, {outside:.0%} fora da região dele",
}


class AnimationConfig(CommandConfig):
    """Write the moving trust court of the README."""


def run(_: AnimationConfig) -> None:
    """Score the shots, draw a frame per season, and write the animation.

    Raises
    ------
    KobeShotError
        If the folder has no champion or no tables, or the animation is too large.
    """
    version = current_store().require_champion().version
    with console.status("drawing the trust court, season by season"):
        courts = list(trust_courts(unseen(dataset_of(version)), version))
        for language, path in PATHS.items():
            content = animation([pixels(figure) for figure in frames(courts, language)])
            if len(content) > MAX_BYTES:
                message = f"expected an animation of at most {MAX_BYTES:,} bytes; found {len(content):,}. Lower WIDTH."
                raise KobeShotError(message)
            with atomic_write(path) as partial:
                partial.write_bytes(content)
            info("Wrote", f"{path.relative_to(ROOT)}, {len(content) / 1e3:.0f} kB")


def unseen(dataset: Dataset) -> pd.DataFrame:
    """The labeled raw shots with all features that are no training rows, in the order of their seasons."""
    tables = [DatasetReader(raw_folder(dataset) / name, dataset=dataset).whole() for name in dataset.raw_tables]
    names = {column.raw_name: column.name for column in dataset.columns}
    known = [*dataset.feature_names, dataset.target.name]
    shots = pd.concat(tables, ignore_index=True).rename(columns=names).dropna(subset=known)
    trained = TableReader(processed_folder(dataset) / f"{IDS[TRAIN]}.parquet").whole()[dataset.id.name]
    return shots[~shots[dataset.id.name].isin(trained)].sort_values(SEASON, kind="stable").reset_index(drop=True)


def trust_courts(shots: pd.DataFrame, version: str) -> Iterator[tuple[str, TrustCourt]]:
    """Each season, and the trust court of the shots up to its end."""
    train = TableReader(processed_folder(current()) / f"{TRAIN}.parquet").whole()
    outside = Support.of(train, dataset_of(version)).out_of_support(shots)
    scored = predict(shots, version)
    for season in scored[SEASON].unique():
        kept = (scored[SEASON] <= season).to_numpy()
        yield season, trust_court(scored[kept], outside[kept])


def frames(courts: list[tuple[str, TrustCourt]], language: str) -> Iterator[Figure]:
    """The trust courts as figures, with titles in a language."""
    for season, found in courts:
        subtitle = _SUBTITLES[language].format(
            first=courts[0][0], season=season, shots=found.shots, outside=found.out_of_support
        )
        english = language == "en"
        figure = trust_court_image.image(found, _TITLES[language], subtitle if english else numbers(subtitle))
        yield figure if english else localize(figure)


def pixels(figure: Figure) -> Image.Image:
    """A figure as an image of `WIDTH` pixels."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=WIDTH / figure.get_figwidth())
    return Image.open(written).convert("RGB")


def animation(images: list[Image.Image]) -> bytes:
    """The images as an animated WebP that repeats.

    Parameters
    ----------
    images : list of PIL.Image.Image
        In the order in which they are shown; the last one is shown longer.
    """
    written = io.BytesIO()
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_MS]
    images[0].save(
        written, "WEBP", save_all=True, append_images=images[1:], duration=durations, loop=0, quality=70, method=4
    )
    return written.getvalue()


if __name__ == "__main__":
    run_command(AnimationConfig, run)
