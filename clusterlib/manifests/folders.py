"""A folder for each cluster: links to local images, and a script that copies them from a store."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from posixpath import splitext

from clusterlib.manifests.record import Record, cluster_name, path_below, safe_name

_COPY = {
    "s3": "aws s3 cp --only-show-errors",
    "gs": "gcloud storage cp",
    "az": "azcopy copy",
    "abfs": "azcopy copy",
    "http": "curl -sSfo",
    "https": "curl -sSfo",
}


def place_of(row: Record) -> str:
    """The path of a record's image below the folder view."""
    ending = splitext(path_below(row.uri))[1]
    ending = ending.lower() if len(ending) <= 6 and ending[1:].isalnum() else ""
    name = safe_name(row.image_id)
    ending = "" if name.lower().endswith(ending) else ending
    return f"{cluster_name(row.cluster_id)}/{name}{ending}"


def copy_script(rows: Sequence[Record]) -> bytes | None:
    """A POSIX shell script that copies the images into folders below its first argument."""
    if not rows:
        return None
    lines = ["#!/bin/sh", "# usage: copy.sh TARGET_FOLDER", "set -eu", 'cd "${1:?target folder}"']
    clusters = sorted({cluster_name(row.cluster_id) for row in rows})
    lines += ["mkdir -p -- " + " ".join(clusters)]
    for row in rows:
        scheme, there = row.uri.partition("://")[::2]
        source, target = shlex.quote(row.uri), shlex.quote(place_of(row))
        if not there:
            lines.append(f"cp -- {source} {target}")
        elif scheme in ("http", "https"):
            lines.append(f"{_COPY[scheme]} {target} -- {source}")
        else:
            lines.append(f"{_COPY.get(scheme, 'fsspec-cp')} {source} {target}")
    return ("\n".join(lines) + "\n").encode("utf-8")
