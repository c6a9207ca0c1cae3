"""Data set files of open tools: Datumaro, CVAT and FiftyOne."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clusterlib.manifests.record import Origin, Record, cluster_name, path_below, safe_name


def datumaro_bytes(rows: Sequence[Record], origin: Origin) -> bytes | None:
    """One subset of a Datumaro data set; its file lies in `annotations/`.

    Item ids become paths on export, so they are harmless names; `attr.image_id` has the id itself.
    """
    if not rows:
        return None
    labels = [
        {"name": cluster_name(cluster), "parent": "", "attributes": []}
        for cluster in origin.cluster_ids
    ]
    head = {
        "info": {"run_id": origin.run_id, "fit_id": origin.fit_id},
        "categories": {
            "label": {"labels": labels, "attributes": ["image_id"]},
        },
    }
    items = ",\n".join(_compact(_datumaro_item(row, origin)) for row in rows)
    return (_compact(head)[:-1] + ',"items":[\n' + items + "\n]}\n").encode()


def _datumaro_item(row: Record, origin: Origin) -> dict[str, Any]:
    annotation = {
        "id": 0,
        "type": "label",
        "label_id": origin.index_of(row.cluster_id),  # Datumaro does not check its range
        "group": 0,
        "attributes": {"image_id": row.image_id, "score": row.score},
    }
    return {
        "id": safe_name(row.image_id),
        "attr": {"image_id": row.image_id},
        "image": {"path": row.address, "size": [row.height, row.width]},
        "annotations": [annotation],
    }


def cvat_bytes(rows: Sequence[Record], origin: Origin) -> bytes | None:
    """A CVAT `manifest.jsonl`: two header lines, then one line an image, without labels.

    Names are paths below the share or bucket, without their ending; sizes are after EXIF rotation.
    """
    if not rows:
        return None
    lines: list[dict[str, Any]] = [{"version": "1.1"}, {"type": "images"}]
    for row in rows:
        path = path_below(row.address)
        folder, slash, file = path.rpartition("/")
        stem, dot, ending = file.rpartition(".")
        name, extension = (folder + slash + stem, dot + ending) if stem else (path, "")
        lines.append(
            {
                "name": name,
                "extension": extension,
                "width": row.width,
                "height": row.height,
                "meta": {"image_id": row.image_id},
            }
        )
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()


def fiftyone_bytes(rows: Sequence[Record], origin: Origin) -> bytes | None:
    """FiftyOne's `labels.json` of an image classification data set, by path of the image."""
    if not rows:
        return None
    classes = [cluster_name(cluster) for cluster in origin.cluster_ids]
    labels = ",\n".join(
        f"{_compact(row.address)}:{_compact(_fiftyone_label(row, origin))}" for row in rows
    )
    return f'{{"classes":{_compact(classes)},"labels":{{\n{labels}\n}}}}\n'.encode()


def _fiftyone_label(row: Record, origin: Origin) -> dict[str, Any]:
    return {
        "label": cluster_name(origin.cluster_ids[origin.index_of(row.cluster_id)]),
        "confidence": row.score,
        "attributes": {"image_id": row.image_id, "cluster_id": row.cluster_id},
    }


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
