"""What every kind of source yields."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class SourceBatch:
    """Some rows of a source, as columns of equal length.

    `columns` holds any of image_id, uri, size_bytes, etag, group, label; `extra` the user's other
    columns as they came. With `ids_from_uri` a row without a URI gets an image_id of its own.
    `skipped` counts what the source left out, such as files of other kinds.
    """

    columns: dict[str, pa.Array]
    extra: pa.Table | None = None
    skipped: int = 0
    ids_from_uri: bool = False

    @property
    def rows(self) -> int:
        return len(self.columns["uri"])
