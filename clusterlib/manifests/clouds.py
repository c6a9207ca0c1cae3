"""JSON lines for the labelling services of three clouds; `schemas/` has what each line must be.

SageMaker: augmented manifest; Vertex AI: image classification import; Azure ML: image
classification JSONL (MLTable).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any
from urllib.parse import unquote, urlsplit

from clusterlib.errors import InputError
from clusterlib.manifests.record import Origin, Record, cluster_name

# A fixed instant: files of equal content must be equal bytes.
_CREATED = "1970-01-01T00:00:00.000000"
# What each service can read; anything else would be refused by it, long after the upload.
_SCHEMES = {
    "sagemaker": ("s3://",),
    "vertex": ("gs://",),
    "azureml": ("azureml://", "AmlDatastore://", "https://"),
}


def sagemaker_bytes(rows: Sequence[Record], origin: Origin) -> bytes | None:
    """A SageMaker augmented manifest with the attribute `cluster`, a label index in 0...K-1."""

    def line(row: Record) -> dict[str, Any]:
        return {
            "source-ref": row.address,
            "image-id": row.image_id,
            "cluster": origin.index_of(row.cluster_id),
            "cluster-metadata": {
                "class-name": cluster_name(row.cluster_id),
                "confidence": row.score,
                "type": "groundtruth/image-classification",
                "job-name": f"labeling-job/{origin.fit_id}",
                "human-annotated": "no",
                "creation-date": _CREATED,
            },
        }

    return _lines("sagemaker", rows, line)


def vertex_bytes(rows: Sequence[Record], origin: Origin) -> bytes | None:
    """Vertex AI import lines; resource labels take lower-case keys and values only."""

    def line(row: Record) -> dict[str, Any]:
        origin.index_of(row.cluster_id)
        return {
            "imageGcsUri": row.address,
            "classificationAnnotation": {"displayName": cluster_name(row.cluster_id)},
            "dataItemResourceLabels": {
                "run": origin.run_id,
                "fit": origin.fit_id,
                "row": str(row.row_id),
            },
        }

    return _lines("vertex", rows, line)


def azureml_bytes(rows: Sequence[Record], origin: Origin) -> bytes | None:
    """Azure ML image classification lines; the format is the file name's ending."""

    def line(row: Record) -> dict[str, Any]:
        origin.index_of(row.cluster_id)
        ending = unquote(urlsplit(row.address).path).rpartition(".")[2].lower()
        return {
            "image_url": row.address,
            "image_id": row.image_id,
            "image_details": {
                "format": {"jpeg": "jpg"}.get(ending, ending if ending.isalnum() else "jpg")[:8],
                "width": f"{row.width}px",
                "height": f"{row.height}px",
            },
            "label": cluster_name(row.cluster_id),
        }

    return _lines("azureml", rows, line)


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one line of `name`: sagemaker, vertex or azureml."""
    text = resources.files(__package__).joinpath(f"schemas/{name}.schema.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def check_address(name: str, address: str) -> None:
    """Refuse an address that the service `name` cannot read.

    Raises:
        InputError: with the remedy.
    """
    if not address.startswith(_SCHEMES[name]):
        raise InputError(
            f"manifests.formats: {name} reads {' or '.join(_SCHEMES[name])} only, not '{address}'; "
            "map it with manifests.uri_prefixes or leave the format out"
        )


def _lines(
    name: str, rows: Sequence[Record], line: Callable[[Record], dict[str, Any]]
) -> bytes | None:
    for row in rows:
        check_address(name, row.address)
    if not rows:
        return None
    # ASCII: U+2028 and its like end a line for some readers.
    return "".join(json.dumps(line(row), separators=(",", ":")) + "\n" for row in rows).encode()
