import errno
import functools
import http.server
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from data.acquisition import download, provenance, raw_tables, sources
from data.acquisition.provenance import Provenance, read_provenance
from data.acquisition.raw_tables import DEV_FILE, FILES, PROD_FILE
from data.acquisition.sources import validate_source
from data.errors import SchemaError, SourceError
from data.schema import THREE_POINTS, TWO_POINTS
from data.simulation import synthetic
from data.storage.files import DiskFullError, sha256
from data.storage.tables import TableWriter
from tests.https import https_server, make_certificate
from tests.project import REAL
from tests.raw import assert_same

NOWHERE = "https://127.0.0.1:9"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


@pytest.fixture
def folder(tmp_path: Path, shots: pd.DataFrame) -> Path:
    """A folder with both raw files."""
    made = tmp_path / "folder"
    made.mkdir()
    for name, points in ((DEV_FILE, TWO_POINTS), (PROD_FILE, THREE_POINTS)):
        shots[shots["shot_type"] == points].to_parquet(made / name, index=False)
    return made


@pytest.fixture
def url(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URL of the folder over https."""
    certificate, key = make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with https_server(handler, certificate, key) as served:
        yield served


def acquire(what: str | Path, raw: Path, public_url: str = NOWHERE) -> Provenance:
    return sources.acquire(str(what), rows=500, seed=1, raw=raw, public_url=public_url)


def contents(raw: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in raw.iterdir() if path.is_file()}


def test_a_folder_is_copied_byte_for_byte(folder: Path, raw: Path) -> None:
    assert acquire(folder, raw).kind == "folder"
    for name in FILES:
        assert (raw / name).read_bytes() == (folder / name).read_bytes()


def test_the_public_files_are_recognized_by_their_bytes(raw: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("the real files are not here")
    assert acquire(REAL, raw).kind == "public"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_one_table_is_split_by_shot_type(tmp_path: Path, raw: Path, shots: pd.DataFrame, suffix: str) -> None:
    table = tmp_path / f"kobe_dataset{suffix}"
    shots.to_csv(table, index=False) if suffix == ".csv" else shots.to_parquet(table, index=False)
    assert acquire(table, raw).kind == "table"
    dev, prod = (pd.read_parquet(raw / name) for name in FILES)
    assert set(dev["shot_type"]) == {TWO_POINTS}
    assert set(prod["shot_type"]) == {THREE_POINTS}
    assert sorted([*dev["shot_id"], *prod["shot_id"]]) == sorted(shots["shot_id"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_many_chunks_is_split_like_one_chunk(
    tmp_path: Path, raw: Path, shots: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    notes = [*range(len(shots) - 1), "last"]
    gaps = shots["loc_x"].mask(shots.index == len(shots) - 1)
    table = shots.assign(loc_x=gaps, empty=None, late=shots["season"].where(shots.index > 5_000))
    path = tmp_path / f"shots{suffix}"
    table.assign(note=notes).to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path, index=False)
    acquire(path, tmp_path / "whole")
    monkeypatch.setattr(raw_tables, "CHUNK_ROWS", 700)
    acquire(path, raw)
    for name in FILES:
        assert_same(pd.read_parquet(raw / name), pd.read_parquet(tmp_path / "whole" / name))


def test_a_folder_of_parts_is_split_as_one_table(tmp_path: Path, raw: Path, shots: pd.DataFrame) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    shots.head(2_000).to_parquet(folder / "a.parquet", index=False)
    shots.tail(-2_000).astype({"period": float}).to_parquet(folder / "b.parquet", index=False)
    validate_source(str(folder))
    assert acquire(folder, raw).kind == "table"
    assert sum(len(pd.read_parquet(raw / name)) for name in FILES) == len(shots)


def test_a_folder_may_contain_folders_of_parts(folder: Path, raw: Path, shots: pd.DataFrame) -> None:
    (folder / DEV_FILE).unlink()
    (folder / DEV_FILE).mkdir()
    dev = shots[shots["shot_type"] == TWO_POINTS]
    dev.head(1_000).to_parquet(folder / DEV_FILE / "part-0.parquet", index=False)
    dev.tail(-1_000).to_parquet(folder / DEV_FILE / "part-1.parquet", index=False)
    (folder / DEV_FILE / "_SUCCESS").touch()
    validate_source(str(folder))
    assert acquire(folder, raw).kind == "folder"
    assert sha256(raw / DEV_FILE) == sha256(folder / DEV_FILE)
    assert read_provenance(raw).kind == "folder"
    acquire("synthetic", raw)
    assert (raw / DEV_FILE).is_file()
    acquire(folder, raw)
    assert len(pd.read_parquet(raw / DEV_FILE)) == len(dev)


def test_a_damaged_part_is_named_and_the_old_files_stay(folder: Path, raw: Path) -> None:
    whole = folder / PROD_FILE
    whole.rename(folder / "part-0.parquet")
    whole.mkdir()
    (folder / "part-0.parquet").rename(whole / "part-0.parquet")
    _truncate(whole / "part-0.parquet")
    acquire("synthetic", raw)
    before = contents(raw)
    with pytest.raises(SourceError, match=r"part-0\.parquet"):
        acquire(folder, raw)
    assert contents(raw) == before


def test_large_simulations_are_folders_of_parts_and_marked_as_synthetic(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.storage.tables.PART_ROWS", 10_000)
    found = sources.acquire("synthetic", rows=70_000, seed=3, raw=raw)
    assert (raw / DEV_FILE).is_dir()
    assert read_provenance(raw) == found
    (raw / "source.json").unlink()
    assert read_provenance(raw).location == "rows=70000 seed=3"
    table = pd.concat([pd.read_parquet(raw / name) for name in FILES]).sort_values("shot_id", ignore_index=True)
    assert_same(table, synthetic.shots(70_000, 3))


def test_a_full_disk_raises_and_the_old_files_stay(
    folder: Path, raw: Path, shots: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(folder, raw)
    before = contents(raw)

    def write(_writer: TableWriter, _piece: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TableWriter, "write", write)
    shots.to_csv(folder / "shots.csv", index=False)
    for what in ("synthetic", folder / "shots.csv"):
        with pytest.raises(DiskFullError, match="is full"):
            acquire(what, raw)
    assert contents(raw) == before
    assert all(not path.name.endswith(".partial") for path in raw.iterdir())


def test_a_table_may_call_the_longitude_lng(tmp_path: Path, raw: Path, shots: pd.DataFrame) -> None:
    shots.rename(columns={"lon": "lng"}).to_csv(tmp_path / "shots.csv", index=False)
    acquire(tmp_path / "shots.csv", raw)
    assert "lon" in pd.read_parquet(raw / DEV_FILE)


def test_a_table_without_shot_type_is_rejected_by_name(tmp_path: Path, raw: Path, shots: pd.DataFrame) -> None:
    shots.drop(columns="shot_type").to_csv(tmp_path / "shots.csv", index=False)
    with pytest.raises(SchemaError, match=r"shots\.csv: column shot_type missing"):
        acquire(tmp_path / "shots.csv", raw)


def test_a_table_of_one_shot_type_is_rejected(tmp_path: Path, raw: Path, shots: pd.DataFrame) -> None:
    shots[shots["shot_type"] == TWO_POINTS].to_csv(tmp_path / "shots.csv", index=False)
    with pytest.raises(SourceError, match=THREE_POINTS):
        acquire(tmp_path / "shots.csv", raw)


@pytest.mark.parametrize("text", ["", '"unclosed', "a,b\n1,2,3\n"])
def test_an_invalid_csv_file_is_rejected_by_name(tmp_path: Path, raw: Path, text: str) -> None:
    (tmp_path / "shots.csv").write_text(text)
    with pytest.raises((SourceError, SchemaError), match=r"shots\.csv"):
        acquire(tmp_path / "shots.csv", raw)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def _drop_a_column(path: Path) -> None:
    pd.read_parquet(path).drop(columns="shot_distance").to_parquet(path, index=False)


def _empty(path: Path) -> None:
    pd.read_parquet(path).head(0).to_parquet(path, index=False)


def _wrong_checksum(path: Path) -> None:
    (path.parent / "SHA256SUMS").write_text(f"{'0' * 64}  {path.name}\n")


@pytest.mark.parametrize("damage", [_truncate, _drop_a_column, _empty, _wrong_checksum])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_the_old_files_stay(folder: Path, raw: Path, damage: object, name: str) -> None:
    acquire("synthetic", raw)
    before = contents(raw)
    assert callable(damage)
    damage(folder / name)
    with pytest.raises((SourceError, SchemaError), match=name):
        acquire(folder, raw)
    assert contents(raw) == before


def test_matching_checksums_are_accepted(folder: Path, raw: Path) -> None:
    (folder / "SHA256SUMS").write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in FILES))
    acquire(folder, raw)


def test_an_https_url_is_downloaded(url: str, folder: Path, raw: Path) -> None:
    assert acquire(url, raw) == Provenance("url", url, {name: sha256(folder / name) for name in FILES})
    assert contents(raw).items() >= {name: sha256(folder / name) for name in FILES}.items()


@pytest.mark.parametrize("damage", [_truncate, _drop_a_column, _wrong_checksum])
def test_a_damaged_download_is_named_and_the_old_files_stay(url: str, folder: Path, raw: Path, damage: object) -> None:
    acquire("synthetic", raw)
    before = contents(raw)
    assert callable(damage)
    damage(folder / PROD_FILE)
    with pytest.raises((SourceError, SchemaError), match=PROD_FILE):
        acquire(url, raw)
    assert contents(raw) == before


def test_a_missing_file_of_a_url_raises_with_its_response(url: str, folder: Path, raw: Path) -> None:
    (folder / PROD_FILE).unlink()
    with pytest.raises(SourceError, match=rf"{PROD_FILE} responded 404"):
        acquire(url, raw)


@pytest.mark.parametrize("wrong", ["https://user:secret@example.org/x", "https://example.org/x?token=secret"])
def test_credentials_in_a_url_are_rejected_and_not_repeated(wrong: str) -> None:
    with pytest.raises(ValueError, match="netrc") as caught:
        validate_source(wrong)
    assert "secret" not in str(caught.value)


def test_auto_downloads_the_public_files_by_checksum(
    url: str, folder: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sources, provenance):
        monkeypatch.setattr(module, "PUBLIC_SHA256", {name: sha256(folder / name) for name in FILES})
    assert acquire("auto", raw, url).kind == "public"


def test_auto_rejects_a_download_with_a_wrong_checksum(url: str, raw: Path) -> None:
    with pytest.raises(SourceError, match="wrong checksum"):
        acquire("auto", raw, url)
    assert not any((raw / name).exists() for name in FILES)


def test_auto_keeps_valid_files(folder: Path, raw: Path, url: str) -> None:
    raw.mkdir()
    for name in FILES:
        shutil.copyfile(folder / name, raw / name)
    before = contents(raw)
    assert acquire("auto", raw, url).kind == "unknown"
    assert contents(raw) == before


def test_auto_without_a_network_simulates_the_same_shots_each_time(raw: Path) -> None:
    first = acquire("auto", raw)
    assert first.is_synthetic
    assert acquire("auto", raw) == first


def test_auto_replaces_synthetic_shots_once_the_public_ones_can_be_reached(
    url: str, folder: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire("auto", raw)
    for module in (sources, provenance):
        monkeypatch.setattr(module, "PUBLIC_SHA256", {name: sha256(folder / name) for name in FILES})
    assert acquire("auto", raw, url).kind == "public"


def test_auto_renames_an_invalid_file(folder: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw.mkdir()
    for name in FILES:
        shutil.copyfile(folder / name, raw / name)
    _truncate(raw / PROD_FILE)
    damaged = sha256(raw / PROD_FILE)
    assert acquire("auto", raw).is_synthetic
    assert sha256(raw / f"{PROD_FILE}.refused-1") == damaged
    assert PROD_FILE in capsys.readouterr().out


def test_a_file_that_changed_after_its_acquisition_is_rejected_and_kept(
    folder: Path, raw: Path, shots: pd.DataFrame
) -> None:
    acquire(folder, raw)
    shots[shots["shot_type"] == TWO_POINTS].head(100).to_parquet(raw / DEV_FILE, index=False)
    before = contents(raw)
    with pytest.raises(SourceError, match=rf"{DEV_FILE} in .*wrong checksum"):
        read_provenance(raw)
    with pytest.raises(SourceError, match=rf"{DEV_FILE} in .*wrong checksum"):
        acquire("auto", raw)
    assert contents(raw) == before


def test_an_acquisition_killed_between_its_two_files_is_detected_and_repeated(folder: Path, raw: Path) -> None:
    acquire("synthetic", raw)
    old = (raw / PROD_FILE).read_bytes()
    acquire(folder, raw)
    (raw / PROD_FILE).write_bytes(old)
    with pytest.raises(provenance.IncompleteAcquisitionError, match="interrupted"):
        read_provenance(raw)
    acquire(folder, raw)
    assert read_provenance(raw).kind == "folder"


def test_copies_of_synthetic_shots_are_recognized(tmp_path: Path, raw: Path) -> None:
    acquire("synthetic", raw)
    copied = acquire(raw, tmp_path / "other")
    assert copied.is_synthetic
    assert copied.location == "rows=500 seed=1"
    (raw / "source.json").unlink()
    assert read_provenance(raw).is_synthetic


def test_auto_simulates_again_with_other_rows(raw: Path) -> None:
    acquire("auto", raw)
    found = sources.acquire("auto", rows=700, seed=9, raw=raw, public_url=NOWHERE)
    assert found.location == "rows=700 seed=9"
    assert sum(len(pd.read_parquet(raw / name)) for name in FILES) == 700


def test_a_prod_shot_among_the_dev_rows_is_rejected(folder: Path, raw: Path, shots: pd.DataFrame) -> None:
    shots.to_parquet(folder / DEV_FILE, index=False)
    with pytest.raises(SourceError, match=r"share .* shot_id"):
        acquire(folder, raw)


def test_a_row_without_shot_type_is_rejected_and_not_lost(tmp_path: Path, raw: Path, shots: pd.DataFrame) -> None:
    shots.assign(shot_type=shots["shot_type"].where(shots.index != 4)).to_csv(tmp_path / "shots.csv", index=False)
    with pytest.raises(SchemaError, match="row 4, column shot_type"):
        acquire(tmp_path / "shots.csv", raw)


def test_columns_of_mixed_types_and_both_names_of_the_longitude_are_accepted(
    tmp_path: Path, raw: Path, shots: pd.DataFrame
) -> None:
    notes = [*range(len(shots) - 1), "last"]
    shots.assign(note=notes, lng=shots["lon"]).to_csv(tmp_path / "shots.csv", index=False)
    acquire(tmp_path / "shots.csv", raw)
    assert {"note", "lng", "lon"} <= set(pd.read_parquet(raw / DEV_FILE))


def test_the_format_of_sha256sum_is_parsed() -> None:
    line = f"{'A' * 64} *./{DEV_FILE}\n".encode()
    assert download.parse_checksums(line) == {DEV_FILE: "a" * 64}


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"abc  other.parquet"])
def test_checksums_that_name_neither_file_are_rejected(folder: Path, raw: Path, content: bytes) -> None:
    (folder / "SHA256SUMS").write_bytes(content)
    with pytest.raises(SourceError, match="names neither"):
        acquire(folder, raw)


@pytest.mark.parametrize("wrong", ["~missing-user/x", "x" * 5_000, "a\0b"])
def test_an_impossible_path_is_rejected(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"expected auto|null"):
        validate_source(wrong)


def test_the_message_about_missing_files_has_the_command_that_acquires_them(raw: Path) -> None:
    raw.mkdir()
    with pytest.raises(SourceError, match=r"mlflow run \. -e aquisicao"):
        read_provenance(raw)


@pytest.mark.parametrize("wrong", ["nowhere", "http://example.org", "ftp://example.org", ""])
def test_an_invalid_source_is_rejected_before_any_work(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # The folder of a checkout has tables below it, and is itself a table of parts to whoever names it.
    Path("part.parquet").touch()
    with pytest.raises(ValueError, match="expected"):
        validate_source(wrong)


def test_a_folder_without_the_files_is_rejected_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"lacks {DEV_FILE} and {PROD_FILE}"):
        validate_source(str(tmp_path))
