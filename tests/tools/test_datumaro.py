"""The real Datumaro imports our data set and exports ImageNet folders from it.

`make test-datumaro` sets it up; this is not part of `make test`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from clusterlib.manifests.datasets import datumaro_bytes
from clusterlib.manifests.record import Origin, Record

pytestmark = pytest.mark.datumaro

ORIGIN = Origin("0123456789ab", "ba9876543210", (0, 1, 2))
IDS = ["plain", "../../escape", 'a "quoted" <b>', "\u202egnp", "x" * 255, "=1+1", "line\nbreak"]

PROGRAM = """
import json, sys
import datumaro as dm
source, target = sys.argv[1:]
# Our images lie where they are, outside the data set: it asks to be told that this is meant.
found = dm.Dataset.import_from(source, "datumaro", allow_external_media=True)
names = [label.name for label in found.categories()[dm.AnnotationType.label]]
items = [
    {
        "image_id": item.attributes["image_id"],
        "subset": item.subset,
        "labels": [names[a.label] for a in item.annotations],
        "annotated": [a.attributes["image_id"] for a in item.annotations],
    }
    for item in found
]
found.export(target, "imagenet", save_media=True)
print(json.dumps(items))
"""


def test_datumaro_imports_every_item_and_exports_imagenet_folders(tmp_path: Path) -> None:
    images, source, target = tmp_path / "images", tmp_path / "source", tmp_path / "out"
    images.mkdir()
    (source / "annotations").mkdir(parents=True)
    rows = []
    for number, image_id in enumerate(IDS):
        path = images / f"{number}.png"
        Image.new("RGB", (8, 6), (number, 0, 0)).save(path)
        rows.append(Record(number, image_id, str(path), str(path), number % 3, 0.5, 8, 6))
    for part, piece in enumerate((rows[:4], rows[4:])):
        file = source / "annotations" / f"part-{part:05d}.json"
        file.write_bytes(datumaro_bytes(piece, ORIGIN) or b"")
    python = Path(os.environ["DATUMARO"]) / "bin/python"
    done = subprocess.run(
        [str(python), "-c", PROGRAM, str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout.splitlines()[-1])
    assert {item["image_id"] for item in items} == set(IDS)
    for item in items:
        assert item["annotated"] == [item["image_id"]]
        assert item["labels"] == [f"cluster_{IDS.index(item['image_id']) % 3:03d}"]
    written = [path for path in target.rglob("*") if path.is_file()]
    assert len([p for p in written if p.parent.name.startswith("cluster_")]) == len(IDS)
    assert {p.name for p in tmp_path.iterdir()} == {"images", "source", "out"}  # nothing escaped
