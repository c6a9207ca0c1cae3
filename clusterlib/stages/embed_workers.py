"""What runs on the workers while embedding: fetch and decode tasks, and encoder actors.

N: images of a block, H, W: the encoder's input size, D: embedding dimensions.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

import clusterlib
from clusterlib.catalog.frozen import read_rows
from clusterlib.clustering.picks import row_hash
from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.images.codes import Rejection
from clusterlib.images.decode import Limits
from clusterlib.images.guard import GuardedDecoder, GuardLimits
from clusterlib.images.thumbnail import MAP_SIZE, array_thumbnail_webp
from clusterlib.run import fingerprint
from clusterlib.stages.embed_probe import Runtime
from clusterlib.stages.fetching import Reader, ReadPlan
from clusterlib.tables.committed import write_proposal
from clusterlib.tables.ranges import ranges_of
from clusterlib.tables.schemas import QUARANTINE, embeddings_schema, sample_schema


@dataclass(frozen=True)
class EmbedPlan:
    """Everything a worker needs to know; small, since it travels to every one."""

    run_uri: str
    catalog: str
    run_id: str
    spec: EncoderSpec
    storage: str
    limits: Limits
    guard: GuardLimits
    read: ReadPlan
    sample_share: float
    seed: int


def fetch_and_decode(
    batch: dict[str, np.ndarray], *, plan: EmbedPlan, pieces: list[tuple[int, int]]
) -> dict[str, Any]:
    """Fetch and decode the catalogue rows of one piece.

    Rows whose store fails for reasons of its own are left out, so that a later pass redoes them.
    Returns columns row_id, image_id, uri, pixels (N, H, W, 3) uint8, width, height, n_frames,
    content_hash, thumbnail, code, detail, attempts, started_at, fetch_seconds, decode_seconds;
    `code` is empty for a usable picture, and the last two are shares of the block's.
    """
    started_at, cpu_before, cpu_of_children = time.time(), time.process_time(), 0.0
    start, stop = pieces[int(batch["id"][0])]
    rows = read_rows(
        plan.catalog, start, stop, ["row_id", "image_id", "uri", "size_bytes"]
    ).to_pylist()
    reader, decoder = _tools(plan)
    pixels = np.zeros((len(rows), *plan.spec.geometry.output, 3), dtype=np.uint8)
    found: dict[int, dict[str, Any]] = {}

    def use(index: int, read: bytes | Rejection) -> None:
        nonlocal cpu_of_children
        found[index] = dict(_NO_PICTURE)
        if isinstance(read, Rejection):
            found[index] |= {"code": read.code, "detail": read.detail}
            return
        outcome = decoder.decode(read)
        cpu_of_children += outcome.cpu_seconds
        found[index] |= {
            "content_hash": hashlib.blake2b(read, digest_size=16).hexdigest(),
            "attempts": outcome.attempts,
        }
        picture = outcome.result
        if isinstance(picture, Rejection):
            found[index] |= {"code": picture.code, "detail": picture.detail}
            return
        pixels[index] = picture.pixels_HWC
        for name in ("width", "height", "n_frames"):
            found[index][name] = getattr(picture, name)

    reader.read(rows, use)
    settled = sorted(found)
    row_ids = np.array([rows[index]["row_id"] for index in settled], dtype=np.int64)
    sampled = row_hash(row_ids, seed=plan.seed) < plan.sample_share
    for index, wanted in zip(settled, sampled, strict=True):
        if wanted and not found[index]["code"]:
            thumbnail = array_thumbnail_webp(pixels[index], size=MAP_SIZE)
            found[index]["thumbnail"] = thumbnail
    share = 1 / max(1, len(settled))
    cpu_seconds = time.process_time() - cpu_before + cpu_of_children
    return {
        "row_id": row_ids,
        "image_id": [rows[index]["image_id"] for index in settled],
        "uri": [rows[index]["uri"] or "" for index in settled],
        "pixels": pixels if len(settled) == len(rows) else pixels[settled],
        "started_at": [started_at] * len(settled),
        "fetch_seconds": [reader.seconds * share] * len(settled),
        "decode_seconds": [cpu_seconds * share] * len(settled),
        **{name: [found[index][name] for index in settled] for name in _NO_PICTURE},
    }


_NO_PICTURE: dict[str, Any] = {
    "width": 0,
    "height": 0,
    "n_frames": 0,
    "content_hash": "",
    "thumbnail": b"",
    "code": "",
    "detail": "",
    "attempts": 1,
}


@functools.lru_cache(maxsize=1)
def _tools(plan: EmbedPlan) -> tuple[Reader, GuardedDecoder]:
    """The reader and the decoder of this worker process, kept from task to task."""
    decoder = GuardedDecoder(geometry=plan.spec.geometry, limits=plan.limits, guard=plan.guard)
    return Reader(plan.read), decoder


class EncoderActor:
    """Holds the network; embeds blocks, writes them, and returns one proposal a block.

    Two blocks are in hand at once, so that the device computes while the block before is written.
    """

    def __init__(
        self, *, plan: EmbedPlan, runtime: Runtime, batch_size: int, compiled: bool
    ) -> None:
        self._plan = plan
        # One thread that computes uses as much CPU as it takes time, unless it is waiting.
        is_one_thread = runtime.name == "torch" and (runtime.device, runtime.threads) == ("cpu", 1)
        self._clock = time.thread_time if is_one_thread else time.perf_counter
        self._computing = threading.Lock()
        self._encoder = runtime.load(plan.spec, batch_size=batch_size)
        if compiled and isinstance(self._encoder, TorchEncoder):
            self._encoder.compile()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Embed a block from `fetch_and_decode`, write its rows, return the proposal as JSON."""
        plan = self._plan
        row_ids = np.asarray(batch["row_id"])
        if len(row_ids) == 0:
            return {"change": [], "timings": []}
        codes = np.asarray(batch["code"], dtype=object).copy()
        usable = np.flatnonzero(codes == "")
        x_ND: np.ndarray = np.zeros((0, 1), dtype=np.float32)
        forward_seconds = 0.0
        if len(usable):
            pixels = np.asarray(batch["pixels"])
            with self._computing:
                started = self._clock()
                x_ND = self._encoder.encode(pixels if len(usable) == len(codes) else pixels[usable])
                forward_seconds = self._clock() - started
            finite = np.isfinite(x_ND).all(axis=1)
            codes[usable[~finite]] = "bad_vector"
            usable, x_ND = usable[finite], x_ND[finite]
        tables = {"quarantine": _quarantine(batch, codes)}
        if len(usable):
            vectors = _vectors(x_ND, plan)
            tables["embeddings"] = _embeddings(batch, usable, vectors, plan)
            tables["sample"] = _sample(batch, usable, vectors, plan)
        started = time.perf_counter()
        proposal = write_proposal(
            plan.run_uri,
            tables,
            ranges=ranges_of(row_ids),
            started_at=float(np.min(batch["started_at"])),
        )
        timings = {
            "images": len(row_ids),
            "pixel_bytes": batch["pixels"].nbytes,
            "fetch": float(np.sum(batch["fetch_seconds"])),
            "decode": float(np.sum(batch["decode_seconds"])),
            "forward": forward_seconds,
            "write": time.perf_counter() - started,
        }
        return {"change": [json.dumps(proposal.to_json())], "timings": [json.dumps(timings)]}


def _vectors(x_ND: np.ndarray, plan: EmbedPlan) -> pa.FixedSizeListArray:
    vector_type = embeddings_schema(x_ND.shape[1], plan.storage).field("embedding").type
    values = pa.array(x_ND.astype(plan.storage).ravel())
    return pa.FixedSizeListArray.from_arrays(values, type=vector_type)


def _embeddings(
    batch: dict[str, Any], usable: np.ndarray, vectors: pa.FixedSizeListArray, plan: EmbedPlan
) -> pa.Table:
    dim = vectors.type.list_size
    footer = {
        "encoder": plan.spec.model,
        "revision": plan.spec.revision,
        "preprocessing": fingerprint(plan.spec.settings()),
        "pooling": plan.spec.pooling,
        "normalized": "true",
        "dim": str(dim),
        "dtype": plan.storage,
        "run_id": plan.run_id,
        "clusterlib": clusterlib.__version__,
    }
    schema = embeddings_schema(dim, plan.storage)
    columns = {
        name: batch[name][usable]
        for name in ("row_id", "image_id", "uri", "width", "height", "n_frames", "content_hash")
    }
    arrays = [
        vectors if field.name == "embedding" else pa.array(columns[field.name], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema).replace_schema_metadata(footer)


def _sample(
    batch: dict[str, Any], usable: np.ndarray, vectors: pa.FixedSizeListArray, plan: EmbedPlan
) -> pa.Table:
    row_ids = np.asarray(batch["row_id"])[usable]
    chosen = np.flatnonzero(row_hash(row_ids, seed=plan.seed) < plan.sample_share)
    thumbnails = [bytes(batch["thumbnail"][usable[index]]) for index in chosen]
    return pa.Table.from_arrays(
        [
            pa.array(row_ids[chosen]),
            vectors.take(pa.array(chosen)),
            pa.array(thumbnails, pa.binary()),
        ],
        schema=sample_schema(vectors.type.list_size, plan.storage),
    )


def _quarantine(batch: dict[str, Any], codes: np.ndarray) -> pa.Table:
    rejected = np.flatnonzero(codes != "")
    rows = [
        {
            "row_id": int(batch["row_id"][index]),
            "image_id": str(batch["image_id"][index]),
            "uri": str(batch["uri"][index]) or None,
            "code": str(codes[index]),
            "detail": str(batch["detail"][index]) or None,
            "attempts": int(batch["attempts"][index]),
        }
        for index in rejected
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE)
