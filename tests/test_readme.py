import re

import pytest
import yaml

from data.files import ROOT
from data.schema import COLUMNS
from monitor.checks import CHECKS

README = (ROOT / "README.md").read_text()


def test_every_column_that_a_table_needs_is_described_as_the_schema_does() -> None:
    for column in COLUMNS:
        row = f"| `{column.name}` | {column.meaning} | {column.allowed} | {column.unit} |"
        assert (row in README) == column.required


def test_every_check_is_described_with_what_to_do() -> None:
    monitoring = (ROOT / "docs" / "monitoring.md").read_text()
    assert re.findall(r"^\| (K\d+) \|", monitoring, flags=re.MULTILINE) == [check.code for check in CHECKS]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)", README)) <= targets


def test_every_entry_point_is_described() -> None:
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    for name in entry_points:
        assert f"`{name}`" in README


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_every_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).is_file()


def test_every_file_and_folder_that_is_named_exists() -> None:
    for name in re.findall(r"\b((?:steps|monitor|serving|data|bench|tests|tools)/(?:\w+\.py)?)", README):
        assert (ROOT / name).exists(), name
