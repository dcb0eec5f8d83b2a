from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import KobeShotError, TableError
from data.storage.files import atomic_write, parquet_files, sha256
from data.storage.tables import TableReader, table_writer

TABLE = pd.DataFrame({"shot_id": np.arange(3_000), "lat": np.linspace(33.2, 34.0, 3_000)})


def in_parts(folder: Path, sizes: list[int]) -> Path:
    folder.mkdir()
    first = 0
    for number, size in enumerate(sizes):
        TABLE.iloc[first : first + size].to_parquet(folder / f"part-{number:05d}.parquet", index=False)
        first += size
    return folder


def written(target: Path, table: pd.DataFrame = TABLE) -> Path:
    chunk = pa.Table.from_pandas(table, preserve_index=False)
    with table_writer(target, chunk.schema) as writer:
        for start in range(0, len(chunk), 700):
            writer.write(chunk.slice(start, 700))
    return target


def test_a_folder_of_parts_is_read_as_one_table_by_name(tmp_path: Path) -> None:
    reader = TableReader(in_parts(tmp_path / "shots", [1_000, 1, 1_999]))
    chunks = list(reader.chunks(800))
    assert [len(chunk) for chunk in chunks] == [800, 800, 800, 600]
    pd.testing.assert_frame_equal(pa.concat_tables(chunks).to_pandas(), TABLE)
    assert reader.rows == 3_000


def test_hidden_files_are_not_parts(tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "shots", [10])
    for name in ("_SUCCESS.parquet", ".part.parquet"):
        (folder / name).write_bytes(b"")
    assert [part.name for part in parquet_files(folder)] == ["part-00000.parquet"]


def test_a_part_may_lack_a_column_or_store_integers_as_floats(tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "shots", [2])
    pd.DataFrame({"shot_id": [7.0]}).to_parquet(folder / "part-00001.parquet", index=False)
    found = pa.concat_tables(TableReader(folder).chunks(10)).to_pandas()
    assert found["shot_id"].tolist() == [0, 1, 7]
    assert found["lat"].isna().tolist() == [False, False, True]


def test_incompatible_parts_raise(tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "shots", [2])
    pd.DataFrame({"shot_id": ["seven"]}).to_parquet(folder / "part-00001.parquet", index=False)
    with pytest.raises(TableError, match="expected parts with the same columns"):
        TableReader(folder)


def test_a_folder_without_parquet_files_raises(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="expected a folder of Parquet files; found none"):
        TableReader(tmp_path)


def test_a_large_table_is_written_in_parts_and_a_small_one_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert written(tmp_path / "small.parquet").is_file()
    monkeypatch.setattr("data.storage.tables.PART_ROWS", 1_000)
    large = written(tmp_path / "large.parquet")
    assert [pq.read_metadata(part).num_rows for part in parquet_files(large)] == [1_000] * 3
    pd.testing.assert_frame_equal(pd.read_parquet(large), TABLE)
    assert written(large, TABLE.head(10)).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.parquet", "small.parquet"]


def test_ids_take_little_space(tmp_path: Path) -> None:
    sizes = []
    for name in ("shot_id", "of_another_name"):
        target = written(tmp_path / f"{name}.parquet", TABLE[["shot_id"]].rename(columns={"shot_id": name}))
        assert pq.read_table(target)[name].to_pylist() == list(range(3_000))
        sizes.append(pq.ParquetFile(target).metadata.row_group(0).total_byte_size)
    assert 10 * sizes[0] < sizes[1]


def test_a_failed_writer_leaves_only_the_old_table(tmp_path: Path) -> None:
    target = in_parts(tmp_path / "shots.parquet", [3])
    before = sha256(target)
    with pytest.raises(pa.ArrowInvalid), table_writer(target, pa.schema([("lat", pa.float64())])) as writer:  # noqa: PT012
        writer.write(pa.table({"lat": [34.0]}))
        writer.write(pa.table({"lat": ["half-way"]}).cast(writer.schema))
    assert sha256(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["shots.parquet"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = in_parts(tmp_path / "shots.parquet", [3])
    before, rename = sha256(target), Path.replace

    def failing(self: Path, to: Path) -> Path:
        if self.parent.suffix == ".partial" and self.name == target.name:
            message = "no such luck"
            raise OSError(message)
        return rename(self, to)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="no such luck"), atomic_write(target) as partial:
        partial.mkdir()
    assert sha256(target) == before


def test_a_folder_that_is_not_a_table_is_not_replaced(tmp_path: Path) -> None:
    target = in_parts(tmp_path / "documents", [3])
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(KobeShotError, match=r"found one with other files, such as thesis\.txt"):
        written(target.rename(tmp_path / "documents.parquet"))
    assert (tmp_path / "documents.parquet" / "thesis.txt").is_file()


def test_a_part_that_is_a_broken_link_raises(tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "shots", [3])
    (folder / "part-00001.parquet").symlink_to(tmp_path / "gone.parquet")
    with pytest.raises(TableError, match=r"part-00001\.parquet: No such file"):
        TableReader(folder)


def test_parts_in_linked_folders_are_read(tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "shots", [3])
    (folder / "more").symlink_to(in_parts(tmp_path / "other", [4]))
    assert TableReader(folder).rows == 7


@pytest.mark.parametrize("sizes", [[3_000], [1_500, 1_500], [30] * 100, [2_900, *[1] * 100]])
@pytest.mark.parametrize("rows", [100, 299, 2_999])
def test_a_systematic_sample_has_about_the_requested_rows_from_the_whole_table(
    tmp_path: Path, sizes: list[int], rows: int
) -> None:
    found = TableReader(in_parts(tmp_path / "shots", sizes)).systematic_sample(rows)
    assert rows / 2 - 1 <= len(found) <= rows
    assert found["shot_id"].is_monotonic_increasing
    assert found["shot_id"].min() < 300
    assert found["shot_id"].max() > 2_600


def test_the_sample_of_a_small_table_is_the_table(tmp_path: Path) -> None:
    for path in (in_parts(tmp_path / "shots", [1_000, 2_000]), written(tmp_path / "shots.parquet")):
        pd.testing.assert_frame_equal(TableReader(path).systematic_sample(3_000), TABLE)


def test_a_csv_file_is_sampled_systematically(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "shots.csv", index=False)
    found = TableReader(tmp_path / "shots.csv").systematic_sample(300)
    assert found["shot_id"].astype(int).tolist() == list(range(0, 3_000, 10))
