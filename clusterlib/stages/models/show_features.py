"""Draw what the encoder makes of a few images: feature maps, attention, patches by likeness."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clusterlib import storage
from clusterlib.catalog.frozen import ROWS_PER_PART, read_info, read_rows, take_rows
from clusterlib.clustering.picks import lowest_hashes
from clusterlib.encoders.features import LayerMaps, layer_maps
from clusterlib.encoders.select import describe_encoder, load_encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError
from clusterlib.images.codes import Rejection
from clusterlib.images.decode import DecodedImage, Limits, decode
from clusterlib.report.features import Column, sheet_png
from clusterlib.run import fingerprint
from clusterlib.stages.build_catalog import build_catalog, folder_root
from clusterlib.stages.embedding.fetching import read_image
from clusterlib.stages.session import Session

MAX_IMAGES = 16
_TITLE = 60  # characters of the model's name
_SPARE = 4  # drawn in place of those that cannot be decoded, this many times as many


def show_features(session: Session, *, images: str = "6", layers: str = "") -> None:
    """Write `features/<encoder>/*.png`, on this machine's CPU and in float32.

    Args:
        session: The run; its catalogue is built when there is none.
        images: How many, chosen by hash, or their image ids with commas between.
        layers: Names of layers with commas between; else some are chosen over the network.

    Raises:
        ConfigError: a layer that is not there, or too many images.
        InputError: an image that is not in the catalogue, or none that can be decoded.
    """
    if read_info(session.run.catalog) is None:
        build_catalog(session)
    with session.stage("show_features") as (progress, facts):
        config = session.config
        encoder = config.encoder.model_copy(update={"precision": "float32"})
        spec = describe_encoder(encoder)
        spec = replace(spec, geometry=replace(spec.geometry, background=config.images.background))
        names, pixels_NHWC = _pictures(session, spec, images)
        network = load_encoder(spec, device="cpu", batch_size=len(pixels_NHWC))
        wanted = [name.strip() for name in layers.split(",") if name.strip()]
        maps = layer_maps(network, pixels_NHWC, layers=wanted)
        slug = re.sub(r"[^A-Za-z0-9]+", "-", spec.model.rstrip("/").rpartition("/")[2]).strip("-")
        folder = storage.join(session.run.features, f"{slug[:40]}-{fingerprint(spec.settings())}")
        sheets = _sheets(maps)
        for file, (title, columns) in sheets.items():
            heading = f"{spec.model[-_TITLE:]}: {title}"
            png = sheet_png(pixels_NHWC, names, columns, title=heading)
            storage.write_bytes(storage.join(folder, file), png)
        progress.note(f"{len(sheets)} sheets of {len(names)} images in {folder}")
        facts.update(folder=folder, sheets=sorted(sheets))


def _pictures(
    session: Session, spec: EncoderSpec, images: str
) -> tuple[list[str], NDArray[np.uint8]]:
    """Image ids and pixels (N, H, W, 3)."""
    count = int(images) if images.isdecimal() else len(images.split(","))
    if not 1 <= count <= MAX_IMAGES:
        raise ConfigError(f"images: a sheet has room for 1 to {MAX_IMAGES} images, got {count}")
    catalog = session.catalog()
    if images.isdecimal():
        ids = lowest_hashes(catalog.rows, _SPARE * count, seed=session.config.seed)
    else:
        ids = _find(session, [name.strip() for name in images.split(",")])
    rows = take_rows(session.run.catalog, ids, ["image_id", "uri"]).to_pylist()
    config = session.config
    limits = Limits(max_pixels=config.images.max_pixels, formats=config.images.formats)
    root = folder_root(config.catalog)
    names, pixels, reason = [], [], ""
    for row in rows:
        data = read_image(row["uri"], max_bytes=config.images.max_bytes, root=root)
        if isinstance(data, Exception):
            raise data
        picture: DecodedImage | Rejection
        if isinstance(data, Rejection):
            picture = data
        else:
            picture = decode(data, geometry=spec.geometry, limits=limits)
        if isinstance(picture, Rejection):
            reason = f"{row['image_id']} is {picture.code}"
            continue
        names.append(row["image_id"])
        pixels.append(picture.pixels_HWC)
        if len(names) == count:
            break
    if not names:
        raise InputError(f"images: none of {len(rows)} images can be shown; {reason}")
    return names, np.stack(pixels)


def _find(session: Session, image_ids: Sequence[str]) -> NDArray[np.int64]:
    rows, missing = session.catalog().rows, set(image_ids)
    found: list[int] = []
    for start in range(0, rows, ROWS_PER_PART):
        part = read_rows(
            session.run.catalog, start, min(start + ROWS_PER_PART, rows), ["image_id"]
        )["image_id"].to_pylist()
        found += [start + place for place, name in enumerate(part) if name in missing]
        missing -= set(part)
    if missing:
        raise InputError(f"images: {min(missing)} is no image_id of {session.run.catalog}")
    return np.array(found, dtype=np.int64)


def _sheets(maps: Sequence[LayerMaps]) -> dict[str, tuple[str, list[Column]]]:
    """File name to title and columns: a sheet a layer of channels, one for all of each other."""
    sheets: dict[str, tuple[str, list[Column]]] = {}
    for number, layer in enumerate(maps, start=1):
        if layer.kind != "channels":
            continue
        height, width = layer.maps_NHWC.shape[1:3]
        columns = [
            Column(f"channel {channel}", layer.maps_NHWC[..., place], "heat")
            for place, channel in enumerate(layer.channels)
        ]
        name = re.sub(r"[^A-Za-z0-9]+", "-", layer.name).strip("-")[:60]
        title = (
            f"{layer.name}\n{len(columns)} of {layer.total} channels, those that differ most; "
            f"{height} × {width} cells"
        )
        sheets[f"{number:02d}-{name}.png"] = title, columns
    looks = [layer for layer in maps if layer.kind == "attention"]
    if looks:
        columns = [Column(layer.name, layer.maps_NHWC[..., 0], "overlay") for layer in looks]
        source = "the class token" if looks[0].has_class else "all patches"
        title = f"where it looks\nattention from {source}, mean of {looks[0].total} heads"
        sheets["attention.png"] = title, columns
    patches = [layer for layer in maps if layer.kind == "patches"]
    if patches:
        columns = [Column(layer.name, layer.maps_NHWC, "colors") for layer in patches]
        title = "what it takes for alike\nfirst three components of all patches as red, green, blue"
        sheets["patches.png"] = title, columns
    return sheets
