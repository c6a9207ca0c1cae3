"""A few images of the catalogue, chosen by hash, read and decoded on the driver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from clusterlib.catalog.frozen import read_info, read_rows
from clusterlib.clustering.picks import row_hash
from clusterlib.config import EncoderConfig
from clusterlib.encoders.select import describe_encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.images.codes import Rejection
from clusterlib.images.decode import HEIF, Limits, register_heif
from clusterlib.images.guard import GuardedDecoder, GuardLimits
from clusterlib.stages.build_catalog import build_catalog, folder_root
from clusterlib.stages.fetching import Reader, ReadPlan
from clusterlib.stages.session import Session

_CATALOG_ROWS = 100_000  # read at once
_IMAGE_ROWS = 64  # decoded at once


def sampled_rows(session: Session, count: int) -> list[dict[str, Any]]:
    """About `count` catalogue rows (row_id, image_id, uri, size_bytes, label), by their hash.

    Builds the catalogue if there is none.
    """
    if read_info(session.run.catalog) is None:
        build_catalog(session)
    total = session.catalog().rows
    share = min(1.0, count / max(total, 1))
    columns = ["row_id", "image_id", "uri", "size_bytes", "label"]
    chosen: list[dict[str, Any]] = []
    for start in range(0, total, _CATALOG_ROWS):
        stop = min(start + _CATALOG_ROWS, total)
        ids_N = np.arange(start, stop, dtype=np.int64)
        wanted_N = np.flatnonzero(row_hash(ids_N, seed=session.config.seed) < share)
        if len(wanted_N):
            table = read_rows(session.run.catalog, start, stop, columns)
            chosen += table.take(wanted_N).to_pylist()
    return chosen


def described(session: Session, model: str) -> EncoderSpec:
    """The spec of `model` with this configuration's background, pooling and precision.

    Another model than the configured one gets its own usual pooling.
    """
    config = session.config
    if HEIF in config.images.formats:
        register_heif()
    own = config.encoder.model == model
    pooling = config.encoder.pooling if own else "auto"
    spec = describe_encoder(
        EncoderConfig(model=model, pooling=pooling, precision=config.encoder.precision)
    )
    return replace(spec, geometry=replace(spec.geometry, background=config.images.background))


def decoded_batches(
    session: Session, spec: EncoderSpec, rows: list[dict[str, Any]]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Indices into `rows` and their pixels (N, H, W, 3) uint8; unusable images are left out."""
    config = session.config
    reader = Reader(
        ReadPlan(
            threads=config.compute.embed.fetch_threads,
            max_bytes=config.images.max_bytes,
            root=folder_root(config.catalog),
        )
    )
    decoder = GuardedDecoder(
        geometry=spec.geometry,
        limits=Limits(max_pixels=config.images.max_pixels, formats=config.images.formats),
        guard=GuardLimits(config.images.max_decode_seconds, config.images.max_decode_mb),
    )
    try:
        for start in range(0, len(rows), _IMAGE_ROWS):
            found: dict[int, np.ndarray] = {}

            def use(index: int, read: bytes | Rejection, found: Any = found) -> None:
                if isinstance(read, Rejection):
                    return
                picture = decoder.decode(read).result
                if not isinstance(picture, Rejection):
                    found[index] = picture.pixels_HWC

            reader.read(rows[start : start + _IMAGE_ROWS], use)
            if found:
                order = sorted(found)
                yield [start + index for index in order], np.stack([found[i] for i in order])
    finally:
        decoder.close()


def driver_device(session: Session) -> str:
    """cuda where this process sees a GPU and the configuration does not say cpu."""
    import torch

    wanted = session.config.compute.embed.device
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
