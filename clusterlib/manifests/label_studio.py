"""Label Studio tasks with the cluster as a prediction, and the labelling interface they fit.

https://labelstud.io/guide/predictions: a prediction's score lies in 0...1. A file is a JSON array,
one task a line: uploads take no JSON lines, source storages take both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from clusterlib.manifests.record import Origin, Record, cluster_name


def task_bytes(rows: Sequence[Record], origin: Origin) -> bytes | None:
    """Tasks, one an image; None when there is none, since Label Studio refuses an empty list."""
    return array_bytes([_task(row, origin) for row in rows])


def _task(row: Record, origin: Origin) -> dict[str, Any]:
    origin.index_of(row.cluster_id)
    choice = {
        "from_name": "cluster",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [cluster_name(row.cluster_id)]},
    }
    return {
        "data": {
            "image": row.address,
            "uri": row.uri,
            "image_id": row.image_id,
            "cluster_id": row.cluster_id,
            "run_id": origin.run_id,
            "fit_id": origin.fit_id,
        },
        "predictions": [
            {
                "model_version": f"{origin.run_id}/{origin.fit_id}",
                "score": row.score,
                "result": [choice],
            }
        ],
    }


def array_bytes(tasks: Sequence[dict[str, Any]]) -> bytes | None:
    """A JSON array with one task a line."""
    if not tasks:
        return None
    lines = (json.dumps(task, ensure_ascii=False, separators=(",", ":")) for task in tasks)
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def interface_xml(cluster_ids: Sequence[int]) -> bytes:
    """The labelling interface: the cluster as a choice, and the true label where it is another."""
    choices = "\n".join(
        f"    <Choice value={quoteattr(cluster_name(cluster))}/>" for cluster in cluster_ids
    )
    return (
        "<View>\n"
        '  <Image name="image" value="$image" zoom="true"/>\n'
        '  <Choices name="cluster" toName="image" choice="single">\n'
        f"{choices}\n"
        "  </Choices>\n"
        '  <TextArea name="label" toName="image" maxSubmissions="1" editable="true"\n'
        '            placeholder="its label, where no cluster fits"/>\n'
        "</View>\n"
    ).encode()
