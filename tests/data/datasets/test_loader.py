import re
from pathlib import Path

import ibis
import pandas as pd
import pytest

from data.datasets import Dataset, default, from_json, load
from data.datasets.loader import FOLDER, names
from data.errors import DatasetError
from data.rules import value_of
from data.storage.dataset_reader import DatasetReader

SMALL = """
[dataset]
name = "heart"
[columns.age]
role = "feature"
kind = "integer"
minimum = 0
[columns.ill]
role = "target"
kind = "integer"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "heart.toml"
    path.write_text(text, encoding="utf-8")
    return path


def message(folder: Path, text: str) -> str:
    with pytest.raises(DatasetError) as caught:
        load(written(folder, text))
    return str(caught.value)


def test_the_brief_is_the_default() -> None:
    assert default() is default()
    assert default().feature_names == ("lat", "lng", "minutes_remaining", "period", "playoffs", "shot_distance")
    assert default().registered_model == "kobe_shot"
    assert default().raw_tables == ("dataset_kobe_dev.parquet", "dataset_kobe_prod.parquet")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_description_of_the_project_is_valid_and_survives_json(path: Path) -> None:
    dataset = load(path)
    assert dataset.name == path.stem
    assert from_json(dataset.to_json()) == dataset
    assert hash(from_json(dataset.to_json())) == hash(dataset)


def test_the_template_is_no_dataset_of_its_own() -> None:
    assert names() == ("kobe", "kobe_full", "nba_chart")


def test_what_is_not_given_is_derived(tmp_path: Path) -> None:
    dataset = load(written(tmp_path, SMALL))
    assert (dataset.title, dataset.registered_model) == ("Heart", "heart")
    assert (dataset.id.name, dataset.id.kind) == ("row_id", "integer")
    assert dataset.raw_tables == ("development.parquet", "production.parquet")
    assert (dataset.time, dataset.group, dataset.court) == (None, None, None)


def test_a_column_is_found_by_any_of_its_names() -> None:
    assert {default().column(name).name for name in ("lng", "lon", "Longitude", "LNG")} == {"lng"}
    with pytest.raises(KeyError):
        default().column("mood")


def test_features_are_listed_by_kind() -> None:
    dataset = load(FOLDER / "template.toml")
    assert [column.name for column in dataset.numeric] == ["price", "items", "gift"]
    assert [column.name for column in dataset.categorical] == ["channel"]
    assert [column.name for column in dataset.dates] == ["customer_since"]
    assert [column.name for column in dataset.kept] == [
        *("order_id", "ordered_on", "customer"),
        *("price", "items", "channel", "gift", "customer_since", "returned"),
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('kind = "integer"\nminimum', 'kind = "double"\nminimum'), r"age\.kind: expected 'float'.*'double'"),
        (("minimum = 0", "minimun = 0"), r"columns\.age\.minimun: unknown key.*Did you mean minimum\?"),
        (("minimum = 0", "minimum = '0'"), r"columns\.age\.minimum: expected a valid number; found '0'"),
        (("minimum = 0", "minimum = 9\nmaximum = 1"), r"columns\.age: expected minimum <= maximum; found 9 and 1"),
        (("minimum = 0", "minimum = nan"), r"columns\.age\.minimum: expected a finite number"),
        (('role = "target"', 'role = "feature"'), r"columns: expected one column of role 'target'; found none"),
        (('role = "feature"', 'role = "pass_through"'), r"at least one column of role 'feature'"),
        (('role = "feature"\n', ""), r"columns\.age\.role: missing"),
        (('name = "heart"', 'name = "My Heart"'), r"dataset\.name: expected a name of lower-case.*'My Heart'"),
        (('name = "heart"\n', ""), r"name: missing"),
        (("[columns.ill]", "[columns.probability]"), r"columns\.probability: scoring adds a column of this name"),
        (("[columns.ill]", "[columns.time]"), r"columns\.time: scoring adds.*raw_name = 'time'"),
        (("minimum = 0", "aliases = ['Prediction']"), r"columns\.age\.aliases: scoring adds a column 'Prediction'"),
        (("[dataset]", "[production]\ncolumn = 'age'\nsince = '9'\n[dataset]"), r"since: expected a number, as age"),
        (("[columns.ill]", "[columns.AGE]"), r"columns\.AGE: age has the same name"),
        (("[dataset]", "[data]"), r"data: expected the sections dataset.*Did you mean dataset\?"),
        (("[dataset]", "[test]\nstrategy = 'time'\n[dataset]"), r"'time' needs a column of role 'time'"),
        (("[dataset]", "[test]\nstrategy = 'group'\n[dataset]"), r"'group' needs a column of role 'group'"),
        (("[dataset]", "[production]\nshare = 1.5\n[dataset]"), r"production\.share: expected less than 1; found 1\.5"),
        (("[dataset]", "[production]\nvalues = [1]\n[dataset]"), r"production: expected column with values"),
        (("[dataset]", "[production]\ncolumn = 'x'\nsince = 1\n[dataset]"), r"production\.column: expected the name"),
        (("[dataset]", "[production]\ncolumn = 'ill'\nsince = 1\n[dataset]"), r"production\.column: .*the target"),
        (("[dataset]", "[development]\ntable = '../x.parquet'\n[dataset]"), r"development: expected a file name"),
        (("[dataset]", "[court]\nx = 'a'\ny = 'age'\n[dataset]"), r"court: expected the names of float.*'a'"),
        (("[dataset]", "[slices.ill]\n[dataset]"), r"slices: expected the name of a column other than the target"),
        (("[dataset]", "test = 1\n[dataset]"), r"test: expected a section \[test\]; found 1"),
        (("[dataset]", "[dataset"), r"heart\.toml is no TOML file"),
        (("[columns.ill]", "[columns.id]\nrole = 'id'\nkind = 'string'\n[columns.ill]"), r"id: expected an id"),
        (('\nrole = "target"\nkind = "integer"', '\nrole = "target"\nkind = "category"'), r"negative and"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_was_expected(tmp_path: Path, change: tuple[str, str], expected: str) -> None:
    found = message(tmp_path, SMALL.replace(*change, 1))
    assert re.search(expected, found, flags=re.DOTALL), found
    assert "errors.pydantic.dev" not in found


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    found = message(tmp_path, SMALL.replace("minimum = 0", "minimum = 'a'").replace('"target"', '"label"'))
    assert "columns.age.minimum" in found
    assert "columns.ill.role" in found


def test_a_dataset_that_does_not_exist_is_named() -> None:
    with pytest.raises(DatasetError, match=r"kobe_full, nba_chart.*'kobe_ful'\. Did you mean kobe_full\?.*propose"):
        load("kobe_ful")
    with pytest.raises(DatasetError, match=r"no such file \(/.*missing\.toml\)"):
        load("missing.toml")


def test_a_large_file_is_no_description(tmp_path: Path) -> None:
    assert "at most" in message(tmp_path, SMALL + "#" * 2**20)


def test_json_of_something_else_is_an_error() -> None:
    with pytest.raises(DatasetError, match="The description of the dataset"):
        from_json("[]")


def test_the_full_dataset_uses_no_id_and_no_date_as_a_feature() -> None:
    full = load("kobe_full")
    assert {"shot_id", "game_id", "game_event_id", "team_id", "game_date", "season"}.isdisjoint(full.feature_names)
    assert full.group is not None
    assert full.group.name == "game_id"
    assert (full.test.strategy, full.production.since) == ("group", "2013-14")
    assert isinstance(full, Dataset)


def test_a_boolean_is_read_from_the_strings_that_a_pattern_names(tmp_path: Path) -> None:
    table = pd.DataFrame({"matchup": ["LAL vs. POR", "LAL @ POR", "LAL vs. UTA", None]})
    table.to_parquet(tmp_path / "table.parquet")
    reader = DatasetReader(tmp_path / "table.parquet", dataset=load("kobe_full"))
    assert reader.whole()["matchup"].tolist() == ["1", "0", "1", None]
    column = load("kobe_full").column("home")
    raw = ibis.memtable(table)
    stored = raw.select(home=value_of(column, raw.matchup))
    assert stored.to_pandas()["home"].fillna(-1).tolist() == [1.0, 0.0, 1.0, -1.0]
