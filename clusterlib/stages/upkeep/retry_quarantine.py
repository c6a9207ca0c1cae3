"""Give quarantined images back to be embedded: those of chosen codes, and no others."""

from __future__ import annotations

import json
import time
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clusterlib.errors import ConfigError
from clusterlib.images.codes import CODES
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import commit_stream, run_tasks
from clusterlib.tables.committed import write_file
from clusterlib.tables.protocol import CommittedFile, Replacement
from clusterlib.tables.ranges import ranges_of
from clusterlib.tables.verify import check_file


def retry_quarantine(session: Session, *, code: str = "") -> None:
    """Release the rows that were quarantined with `code`, one code or several with commas between.

    They are missing from then on, so that `embed_images` does them again.

    Raises:
        ConfigError: no code is given, or one that does not exist.
        InputError: embedding has not begun.
    """
    codes = _codes(code)
    with session.stage("retry_quarantine") as (progress, facts):
        table, _ = session.committed_embeddings()
        before = len(table.state.committed)
        files = table.files("quarantine")
        if files:
            session.start_ray()
            changes = run_tasks(
                _release, len(files), root=session.run.uri, files=files, codes=codes
            )
            commit_stream(
                table,
                changes,
                every_seconds=session.config.compute.commit_seconds,
                on_commit=lambda _: None,
            )
        released = before - len(table.state.committed)
        facts.update(codes=codes, released=released)
        progress.note(f"{released:,} images will be tried again ({', '.join(codes)})")


def _codes(text: str) -> list[str]:
    codes = [code.strip() for code in text.split(",") if code.strip()]
    unknown = [code for code in codes if code not in CODES]
    if unknown or not codes:
        wrong = f"unknown code '{unknown[0]}'" if unknown else "which ones?"
        raise ConfigError(
            f"code: {wrong}; give code=<code>[,<code>...], known are {', '.join(CODES)}"
        )
    return codes


def _release(
    batch: dict[str, Any], *, root: str, files: list[CommittedFile], codes: list[str]
) -> dict[str, list[str]]:
    started_at = time.time()
    file = files[int(batch["id"][0])]
    rows = check_file(root, file)
    chosen = pc.is_in(rows["code"], pa.array(codes))
    released = rows.filter(chosen)
    if released.num_rows == 0:
        return {"change": []}
    kept = rows.filter(pc.invert(chosen))
    written = (write_file(root, "quarantine", kept),) if kept.num_rows else ()
    ranges = ranges_of(released["row_id"].to_numpy())
    change = Replacement((file.entry.path,), written, ranges, started_at)
    return {"change": [json.dumps(change.to_json())]}
