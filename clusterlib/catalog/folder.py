"""A folder or object-store prefix as a source: every file with an image suffix, by name."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from clusterlib import storage
from clusterlib.catalog.source import SourceBatch
from clusterlib.config import CatalogConfig

_BATCH_ROWS = 20_000


def read_folder(config: CatalogConfig) -> Iterator[SourceBatch]:
    """Rows for the images under `config.source`; `image_id` is the path below it.

    Raises:
        InputError: the folder or bucket is missing or refused.
    """
    root = storage.absolute(config.source)
    suffixes = tuple(suffix.lower() for suffix in config.suffixes)
    uris: list[str] = []
    sizes: list[int] = []
    etags: list[str] = []
    skipped = 0

    def batch() -> SourceBatch:
        prefix = root.rstrip("/") + "/"
        columns = {
            "image_id": pa.array([uri.removeprefix(prefix) for uri in uris], pa.string()),
            "uri": pa.array(uris, pa.string()),
            "size_bytes": pa.array(sizes, pa.int64()),
            "etag": pa.array([etag or None for etag in etags], pa.string()),
        }
        return SourceBatch(columns, skipped=skipped)

    for info in storage.list_files(root):
        if not info.uri.lower().endswith(suffixes):
            skipped += 1
            continue
        uris.append(_text(info.uri))
        sizes.append(info.size_bytes)
        etags.append(info.etag)
        if len(uris) == _BATCH_ROWS:
            yield batch()
            uris, sizes, etags, skipped = [], [], [], 0
    yield batch()


def _text(name: str) -> str:
    """File names are bytes; those that are not UTF-8 are kept readable, though not reachable."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
