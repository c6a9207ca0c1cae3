"""Draw what the configured encoder's layers make of a few images of the catalogue."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from clusterlib import storage
from clusterlib.encoders.features import layer_maps
from clusterlib.errors import ConfigError, InputError
from clusterlib.report.feature_sheets import feature_sheet
from clusterlib.stages.sampling import decoded_batches, described, sampled_rows
from clusterlib.stages.session import Session

_MOST_IMAGES = 12


def show_features(session: Session, *, images: str = "4", layers: str = "") -> None:
    """Write `report/features/<model>/<layer>.png` in the run, one sheet a layer.

    Args:
        session: The configured run.
        images: How many images, 1 to 12; chosen by hash, so the same ones every time.
        layers: Names of layers, with commas; default: a few from shallow to deep.

    Raises:
        ConfigError: a wrong number or layer name, or an encoder without layers.
        InputError: no image can be read.
    """
    if not images.isdigit() or not 1 <= int(images) <= _MOST_IMAGES:
        raise ConfigError(f"images: expected 1 to {_MOST_IMAGES}, got '{images}'")
    model = session.config.encoder.model
    spec = replace(described(session, model), precision="float32")
    rows = sampled_rows(session, 4 * int(images) + 40)  # some may be unusable
    pixels, names = [], []
    for indices, pixels_NHWC in decoded_batches(session, spec, rows):
        pixels += list(pixels_NHWC)
        names += [str(rows[index]["image_id"]).rpartition("/")[2] for index in indices]
        if len(pixels) >= int(images):
            break
    if not pixels:
        raise InputError(f"none of {len(rows)} images of {session.run.catalog} can be read")
    pictures_NHWC = np.stack(pixels[: int(images)])
    asked = [name.strip() for name in layers.split(",") if name.strip()]
    found = layer_maps(spec, pictures_NHWC, layers=asked)
    if not found:
        raise ConfigError(f"encoder.model: {model} has no layer with maps")
    folder = storage.join(session.run.uri, "report", "features", _file_name(model))
    for number, layer in enumerate(found, start=1):
        sheet = feature_sheet(
            layer.maps_NCHW,
            pictures_NHWC,
            kind=layer.kind,
            title=f"{model[-60:]}, {layer.layer}",
            names=names,
        )
        path = storage.join(folder, f"{number:02d}-{_file_name(layer.layer)}.png")
        storage.write_bytes(path, sheet)
        session.screen.say(path)


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[-60:]
