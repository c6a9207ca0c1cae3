"""A CSV, Parquet or JSONL table with a column of paths or URIs as a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from clusterlib import storage
from clusterlib.catalog.source import SourceBatch
from clusterlib.config import CatalogConfig
from clusterlib.errors import ConfigError, InputError

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
_BATCH_ROWS = 20_000


def read_table(config: CatalogConfig) -> Iterator[SourceBatch]:
    """Rows of the table `config.source`; relative URIs are taken from the table's own folder.

    Without `id_column` the URI itself, as written in the table, is the image_id.

    Raises:
        InputError: the table is missing or cannot be parsed.
        ConfigError: a named column is not in the table.
    """
    source = storage.absolute(config.source)
    folder = source.rsplit("/", 1)[0]
    try:
        for batch in _batches(source):
            yield _to_source_batch(pa.Table.from_batches([batch]), config, folder)
    except IsADirectoryError:
        raise InputError(f"{source}: a folder, not a table; name one file of it") from None
    except FileNotFoundError:
        raise InputError(f"{source}: no such table; check catalog.source") from None
    except PermissionError:
        raise InputError(f"{source}: access refused") from None
    except pa.ArrowException as error:
        line = (str(error).splitlines() or [""])[0]
        raise InputError(f"{source}: cannot be read as a table: {line}") from None


def _batches(source: str) -> Iterator[pa.RecordBatch]:
    with storage.open_input(source) as handle:
        kind = source.lower()
        if kind.endswith(".parquet"):
            yield from pq.ParquetFile(handle).iter_batches(batch_size=_BATCH_ROWS)
        elif kind.endswith((".csv", ".tsv")):
            parse = pa.csv.ParseOptions(
                delimiter="\t" if kind.endswith(".tsv") else ",", newlines_in_values=True
            )
            # Strings stay strings: '007' is an id, not a number.
            convert = pa.csv.ConvertOptions(
                column_types=_csv_column_types(source, parse),
                strings_can_be_null=True,
                null_values=[""],
            )
            yield from pa.csv.open_csv(handle, parse_options=parse, convert_options=convert)
        else:
            yield from pa.json.read_json(handle).to_batches(max_chunksize=_BATCH_ROWS)


def _csv_column_types(source: str, parse: pa.csv.ParseOptions) -> dict[str, pa.DataType]:
    with storage.open_input(source) as handle:
        names = pa.csv.open_csv(handle, parse_options=parse).schema.names
    return dict.fromkeys(names, pa.string())


def _to_source_batch(table: pa.Table, config: CatalogConfig, folder: str) -> SourceBatch:
    named = {
        "uri": config.uri_column,
        "image_id": config.id_column,
        "group": config.group_column,
        "label": config.label_column,
    }
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise InputError(f"{config.source}: the column '{twice[0]}' occurs more than once")
    for key, column in named.items():
        if column is not None and column not in table.column_names:
            setting = {"image_id": "id_column"}.get(key, f"{key}_column")
            raise ConfigError(
                f"catalog.{setting}: the table has no column '{column}'; it has "
                f"{', '.join(table.column_names)}"
            )
    columns = {
        key: pc.cast(table[column].combine_chunks(), pa.string())
        for key, column in named.items()
        if column is not None
    }
    written = columns["uri"]
    columns["uri"] = pa.array([_resolve(uri, folder) for uri in written.to_pylist()], pa.string())
    ids_from_uri = "image_id" not in columns
    columns.setdefault("image_id", written)
    extra = table.drop_columns([column for column in set(named.values()) if column])
    return SourceBatch(columns, extra if extra.num_columns else None, ids_from_uri=ids_from_uri)


def _resolve(uri: str | None, folder: str) -> str | None:
    if not uri:
        return None
    if "://" in uri or uri.startswith("/"):
        return uri
    return storage.join(folder, uri)
