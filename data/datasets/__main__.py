"""The command ``python -m data.datasets``: check a description, or propose one for a table."""

import sys
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from data.cli.config import CommandConfig, run_command
from data.cli.console import info
from data.datasets.loader import load
from data.datasets.proposal import propose
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
    info(f"{dataset.name}:", f"{len(dataset.features)} features, target {dataset.target.name}")


if __name__ == "__main__":
    run_command(DatasetsConfig, run)
