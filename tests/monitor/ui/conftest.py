"""A store that tests of pages share."""

import shutil
from pathlib import Path

import pytest

from tests.operation_store import fill_store, shots, using_store
from tests.preparation import once


@pytest.fixture(scope="session")
def operated_database(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """Database of a store with tables and a champion; tests copy it."""

    def make(folder: Path) -> None:
        with using_store(Path(shutil.copy(empty_database, folder / "mlflow.db")), folder / "artifacts"):
            fill_store(folder, shots(1_500, 1), shots(600, 2))

    return once(tmp_path_factory, "operated", make) / "mlflow.db"
