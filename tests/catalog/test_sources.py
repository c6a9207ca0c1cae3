"""Folders and tables become catalogue rows; the frozen catalogue reads back by range."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clusterlib.catalog import digits, frozen
from clusterlib.catalog.folder import read_folder
from clusterlib.catalog.source import SourceBatch
from clusterlib.catalog.table import read_table
from clusterlib.config import CatalogConfig
from clusterlib.errors import ConfigError, InputError


def config(source: object, **options: object) -> CatalogConfig:
    return CatalogConfig(source=str(source), **options)  # type: ignore[arg-type]


def freeze(batches: object, folder: Path) -> frozen.CatalogInfo:
    return frozen.freeze(batches, folder=str(folder), settings={}, source="here")  # type: ignore[arg-type]


def rows(folder: Path, start: int, stop: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = frozen.read_rows(str(folder), start, stop).to_pylist()
    return found


def test_folder_takes_images_by_suffix_in_name_order(tmp_path: Path) -> None:
    source = tmp_path / "images"
    for name in ("b.PNG", "a/2.jpg", "a/1.webp", "notes.txt", ".thumbs/x.png", "a/._1.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"x" * 5)
    info = freeze(read_folder(config(source)), tmp_path / "catalog")
    found = rows(tmp_path / "catalog", 0, info.rows)
    assert [row["image_id"] for row in found] == ["a/1.webp", "a/2.jpg", "b.PNG"]
    assert [row["row_id"] for row in found] == [0, 1, 2]
    assert found[2]["uri"] == str(source / "b.PNG")
    assert {row["size_bytes"] for row in found} == {5}
    assert info.skipped == 1
    assert not info.has_labels


TABLE = {
    "path": ["one.png", "/abs/two.png", "s3://bucket/three.png", None],
    "sku": ["007", "8", "9", "10"],
    "kind": ["cat", "dog", None, "cat"],
    "price": ["1.5", "2", "3", "4"],
}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_tables_keep_every_column(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"catalog.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table(TABLE), source)
    elif suffix == "jsonl":
        lines = [
            dict(zip(TABLE, values, strict=True)) for values in zip(*TABLE.values(), strict=True)
        ]
        source.write_text("\n".join(json.dumps(line) for line in lines))
    else:
        comma = "," if suffix == "csv" else "\t"
        lines_ = [comma.join(TABLE)]
        for values in zip(*TABLE.values(), strict=True):
            lines_.append(comma.join(value or "" for value in values))
        source.write_text("\n".join(lines_) + "\n")
    options = {"uri_column": "path", "id_column": "sku", "label_column": "kind"}
    info = freeze(read_table(config(source, **options)), tmp_path / "out")
    found = rows(tmp_path / "out", 0, 4)
    assert info.rows == 4
    assert info.has_labels
    assert [row["uri"] for row in found] == [
        str(tmp_path / "one.png"),
        "/abs/two.png",
        "s3://bucket/three.png",
        None,
    ]
    assert [row["image_id"] for row in found] == ["007", "8", "9", "10"]
    assert [row["label"] for row in found] == ["cat", "dog", None, "cat"]
    assert [row["extra"] for row in found] == [{"price": p} for p in TABLE["price"]]


def test_without_an_id_column_the_uri_is_the_id(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("uri\na.png\nb.png\n")
    freeze(read_table(config(source)), tmp_path / "out")
    assert [row["image_id"] for row in rows(tmp_path / "out", 0, 2)] == ["a.png", "b.png"]


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("file,kind\na.png,x\n")
    with pytest.raises(ConfigError, match="catalog.uri_column: .* 'uri'; it has file, kind"):
        list(read_table(config(source)))


@pytest.mark.parametrize(
    ("name", "content"), [("t.csv", ""), ("t.jsonl", "{no"), ("t.parquet", "x")]
)
def test_a_broken_table_is_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match="cannot be read as a table"):
        list(read_table(config(tmp_path / name)))


def test_a_missing_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such table"):
        list(read_table(config(tmp_path / "none.csv")))


def test_words_for_nothing_are_words(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("uri,sku,kind\na.png,NA,null\nb.png,NULL,nan\nc.png,N/A,\n")
    freeze(
        read_table(config(source, id_column="sku", label_column="kind")),
        tmp_path / "out",
    )
    found = rows(tmp_path / "out", 0, 3)
    assert [row["image_id"] for row in found] == ["NA", "NULL", "N/A"]
    assert [row["label"] for row in found] == ["null", "nan", None]


def test_a_row_without_a_uri_gets_an_id_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "T.CSV"
    source.write_text("uri,x\na.png,1\n,2\n")
    freeze(read_table(config(source)), tmp_path / "out")
    assert [row["image_id"] for row in rows(tmp_path / "out", 0, 2)] == ["a.png", "row-1"]


def test_tables_that_cannot_be_kept_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("uri,x,x\na.png,1,2\n")
    (tmp_path / "empty.jsonl").write_text('{"uri":"a.png","m":{}}\n')
    (tmp_path / "folder.parquet").mkdir()
    for name in ("twice.csv", "empty.jsonl", "folder.parquet"):
        with pytest.raises(InputError) as caught:
            freeze(read_table(config(tmp_path / name)), tmp_path / "out")
        assert "\n" not in str(caught.value)


def test_duplicate_ids_are_refused_and_two_named(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("uri\na.png\nb.png\nc.png\na.png\nb.png\na.png\n")
    with pytest.raises(InputError, match="'a.png' and 'b.png' occur more than once"):
        freeze(read_table(config(source)), tmp_path / "out")
    assert frozen.read_info(str(tmp_path / "out")) is None


def test_an_empty_id_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("uri,sku\na.png,1\nb.png,\n")
    with pytest.raises(InputError, match="row 1 has no image_id"):
        freeze(read_table(config(source, id_column="sku")), tmp_path / "out")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "readme.txt").write_text("x")
    with pytest.raises(InputError, match="no images found \\(1 files of other kinds"):
        freeze(read_folder(config(tmp_path / "images")), tmp_path / "out")


def test_ranges_across_parts_and_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "ROWS_PER_PART", 100)
    monkeypatch.setattr("clusterlib.tables.parquet.ROW_GROUP_ROWS", (1, 30))

    def batches() -> object:
        for start in range(0, 350, 70):
            names = pa.array([f"{n}.png" for n in range(start, start + 70)])
            yield SourceBatch({"uri": names, "image_id": names})

    info = freeze(batches(), tmp_path)
    assert info.rows == 350
    assert sorted(p.name for p in tmp_path.glob("*.parquet"))[-1] == "part-00003.parquet"
    for start, stop in [(0, 350), (0, 1), (29, 31), (95, 105), (99, 301), (349, 350), (100, 200)]:
        found = rows(tmp_path, start, stop)
        assert [row["row_id"] for row in found] == list(range(start, stop))
        assert [row["uri"] for row in found] == [f"{n}.png" for n in range(start, stop)]


def test_the_same_source_freezes_to_the_same_digest(tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("uri,x\na.png,1\nb.png,2\n")
    first = freeze(read_table(config(source)), tmp_path / "one")
    assert freeze(read_table(config(source)), tmp_path / "two").digest == first.digest
    source.write_text("uri,x\na.png,1\nb.png,3\n")
    assert freeze(read_table(config(source)), tmp_path / "three").digest != first.digest


def test_digits_are_written_once(tmp_path: Path) -> None:
    from PIL import Image

    table = Path(digits.write_digits(str(tmp_path)))
    lines = table.read_text().splitlines()
    assert len(lines) == 1 + digits.ROWS
    assert lines[1] == "0000.png,0"
    with Image.open(tmp_path / "0000.png") as image:
        assert (image.size, image.mode) == ((96, 96), "L")
        assert image.getpixel((0, 0)) == 255
    before = (tmp_path / "0000.png").stat().st_mtime_ns
    digits.write_digits(str(tmp_path))
    assert (tmp_path / "0000.png").stat().st_mtime_ns == before
