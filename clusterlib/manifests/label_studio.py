"""Label Studio tasks with the cluster as a prediction, and the labelling interface they fit.

https://labelstud.io/guide/predictions: a prediction's score lies in 0...1.
"""

from __future__ import annotations

import json
from xml.sax.saxutils import quoteattr

import pyarrow as pa


def cluster_name(cluster_id: int) -> str:
    """The choice that stands for a cluster until people have named it."""
    return f"cluster_{cluster_id:03d}" if cluster_id >= 0 else "noise"


def task_bytes(manifest: pa.Table, *, run_id: str, fit_id: str) -> bytes | None:
    """A JSON array of tasks, one for each clustered row of a manifest; None when there is none.

    The score is the row's silhouette, mapped from -1...1 to 0...1. `uri` stays what it is when the
    labelling tool's own address of the image is put into `image`.
    """
    columns = ["image_id", "uri", "cluster_id", "silhouette"]
    tasks = [
        {
            "data": {
                "image": row["uri"],
                "uri": row["uri"],
                "image_id": row["image_id"],
                "cluster_id": row["cluster_id"],
                "run_id": run_id,
                "fit_id": fit_id,
            },
            "predictions": [
                {
                    "model_version": f"{run_id}/{fit_id}",
                    "score": round((row["silhouette"] + 1) / 2, 4),
                    "result": [
                        {
                            "from_name": "cluster",
                            "to_name": "image",
                            "type": "choices",
                            "value": {"choices": [cluster_name(row["cluster_id"])]},
                        }
                    ],
                }
            ],
        }
        for row in manifest.select(columns).to_pylist()
        if row["cluster_id"] is not None
    ]
    if not tasks:
        return None  # Label Studio refuses an empty list
    return json.dumps(tasks, ensure_ascii=False, separators=(",", ":")).encode()


def interface_xml(cluster_ids: list[int]) -> bytes:
    """The labelling interface: one choice a cluster."""
    choices = "\n".join(
        f"    <Choice value={quoteattr(cluster_name(cluster))}/>" for cluster in cluster_ids
    )
    return (
        "<View>\n"
        '  <Image name="image" value="$image"/>\n'
        '  <Choices name="cluster" toName="image" choice="single">\n'
        f"{choices}\n"
        "  </Choices>\n"
        "</View>\n"
    ).encode()
