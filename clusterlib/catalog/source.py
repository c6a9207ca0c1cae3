"""What every kind of source yields."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class SourceBatch:
    """Some rows of a source, as columns of equal length.

    `columns` holds any of image_id, uri, size_bytes, etag, group, label; `extra` the user's other
    columns as they came. `skipped` counts what the source left out, such as files of other kinds.
    """

    columns: dict[str, pa.Array]
    extra: pa.Table | None = None
    skipped: int = field(default=0)

    @property
    def rows(self) -> int:
        return len(self.columns["uri"])
