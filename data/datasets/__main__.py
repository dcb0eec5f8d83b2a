"""The command ``python -m data.datasets``: check a description, or propose one for a table."""

import sys
import tempfile
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from data.cli.config import CommandConfig, run_command
from data.cli.console import info
from data.datasets.check import describe_preparation, examine, oddities
from data.datasets.current import use
from data.datasets.loader import load
from data.datasets.proposal import propose
from data.storage.files import translate_disk_full
from data.storage.locations import display_location, is_url, local_table, validate_location

_MAX_FILES = {"check": 2, "propose": 1}


class DatasetsConfig(CommandConfig):
    """Check the description of a dataset, also against a table (check FILE [TABLE]), or write one (propose TABLE)."""

    action: CliPositionalArg[Literal["check", "propose"]] = Field(description="check or propose")
    files: CliPositionalArg[list[str]] = Field(
        description="check: the description, a name or a TOML file, and a table that it describes; propose: a table"
    )
    target: str = Field(default="", description="propose: the column of the label; empty guesses it")

    @model_validator(mode="after")
    def check_files(self) -> Self:
        """Refuse too many files, and a table that is none."""
        if not 1 <= len(self.files) <= _MAX_FILES[self.action]:
            usage = {"check": "check FILE [TABLE]", "propose": "propose TABLE"}[self.action]
            message = f"expected python -m data.datasets {usage}; found {len(self.files)} files"
            raise ValueError(message)
        for table in self.files[1:] if self.action == "check" else self.files:
            validate_location(table)
        return self


def run(config: DatasetsConfig) -> None:
    """Check or propose."""
    if config.action == "propose":
        [table] = config.files
        with local_table(table) as path:
            name = display_location(table) if is_url(table) else Path(table).name
            sys.stdout.write(propose(path, name, config.target))
        return
    dataset = load(config.files[0])
    roles = [f"{role} {column.name}" for role in ("id", "time", "group") if (column := getattr(dataset, role))]
    info(
        f"{dataset.title}:",
        f"{len(dataset.features)} features, target {dataset.target.name} ({dataset.positive} or {dataset.negative}), "
        f"{', '.join(roles)}; registered as {dataset.registered_model}",
    )
    found = list(oddities(dataset))
    for table in config.files[1:]:
        name = display_location(table) if is_url(table) else Path(table).name
        with (
            use(config.files[0]),
            tempfile.TemporaryDirectory() as folder,
            translate_disk_full(Path(folder)),
            local_table(table) as path,
        ):
            result, odd = examine(dataset, path, name, Path(folder))
        found += odd
        for line in describe_preparation(dataset, result):
            info("Rows:", line, style="")
    for line in found:
        info("Odd:", line, style="bold yellow")
    info("Valid.", "" if found else "Nothing is odd.", style="bold green")


if __name__ == "__main__":
    run_command(DatasetsConfig, run)
