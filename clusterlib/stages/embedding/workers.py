"""What runs on the workers while embedding: fetch and decode tasks, and encoder actors.

N: images of a block, H, W: the encoder's input size, D: embedding dimensions.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
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
from clusterlib.stages.embedding.fetching import Reader, ReadPlan
from clusterlib.stages.embedding.probe import Runtime
from clusterlib.stages.embedding.source_reads import SourceReads
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


# What is told of each image besides its pixels; `code` is empty for a usable picture.
_FACTS = pa.schema(
    [
        ("row_id", pa.int64()),
        ("image_id", pa.string()),
        ("uri", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("n_frames", pa.int32()),
        ("content_hash", pa.string()),
        ("thumbnail", pa.binary()),
        ("code", pa.string()),
        ("detail", pa.string()),
        ("attempts", pa.int32()),
        ("n_bytes", pa.int64()),
        ("fetch_seconds", pa.float64()),
        ("fetch_tries", pa.int32()),
        ("decode_seconds", pa.float64()),  # the block's, shared out evenly
        ("started_at", pa.float64()),  # of the block
    ]
)


def fetch_and_decode(
    batch: dict[str, np.ndarray], *, plan: EmbedPlan, pieces: list[tuple[int, int]]
) -> pa.Table:
    """Fetch and decode the catalogue rows of one piece: a table of _FACTS and `pixels`.

    `pixels` are H * W * 3 uint8 a row, in the one buffer that they were decoded into. Rows whose
    store fails for reasons of its own are left out, so that a later pass redoes them.
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
        facts = found[index] = {"code": "", "attempts": 1, "n_bytes": 0}
        if isinstance(read, Rejection):
            facts |= {"code": read.code, "detail": read.detail or None}
            return
        outcome = decoder.decode(read)
        cpu_of_children += outcome.cpu_seconds
        facts |= {
            "content_hash": hashlib.blake2b(read, digest_size=16).hexdigest(),
            "attempts": outcome.attempts,
            "n_bytes": len(read),
        }
        picture = outcome.result
        if isinstance(picture, Rejection):
            facts |= {"code": picture.code, "detail": picture.detail or None}
            return
        pixels[index] = picture.pixels_HWC
        for name in ("width", "height", "n_frames"):
            facts[name] = getattr(picture, name)

    reader.read(rows, use)
    settled = sorted(found)
    row_ids = np.array([rows[index]["row_id"] for index in settled], dtype=np.int64)
    sampled = row_hash(row_ids, seed=plan.seed) < plan.sample_share
    for index, wanted in zip(settled, sampled, strict=True):
        if wanted and not found[index]["code"]:
            thumbnail = array_thumbnail_webp(pixels[index], size=MAP_SIZE)
            found[index]["thumbnail"] = thumbnail
    cpu_seconds = time.process_time() - cpu_before + cpu_of_children
    shared = {"decode_seconds": cpu_seconds / max(1, len(settled)), "started_at": started_at}
    facts = [
        rows[index]
        | found[index]
        | shared
        | {
            "uri": rows[index]["uri"] or None,
            "fetch_seconds": reader.spent[index].seconds,
            "fetch_tries": reader.spent[index].tries,
        }
        for index in settled
    ]
    table = pa.Table.from_pylist(facts, schema=_FACTS)
    if len(settled) < len(rows):
        pixels = pixels[settled]
    flat = pa.array(pixels.reshape(-1))  # not copied
    return table.append_column(
        "pixels", pa.FixedSizeListArray.from_arrays(flat, math.prod(pixels.shape[1:]))
    )


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

    def __call__(self, batch: pa.Table) -> dict[str, list[str]]:
        """Embed a block from `fetch_and_decode`, write its rows, return the proposal as JSON."""
        if batch.num_rows == 0:
            return {"change": [], "timings": []}
        plan = self._plan
        pixels_NHWC, facts = _pixels(batch, plan), batch.drop_columns(["pixels"])
        codes = np.array(facts["code"].to_pylist(), dtype=object)
        usable = np.flatnonzero(codes == "")
        x_ND: np.ndarray = np.zeros((0, 1), dtype=np.float32)
        forward_seconds = 0.0
        if len(usable):
            if len(usable) < len(codes):
                pixels_NHWC = pixels_NHWC[usable]
            with self._computing:
                started = self._clock()
                x_ND = self._encoder.encode(pixels_NHWC)
                forward_seconds = self._clock() - started
            finite = np.isfinite(x_ND).all(axis=1)
            codes[usable[~finite]] = "bad_vector"
            usable, x_ND = usable[finite], x_ND[finite]
        rejected = np.flatnonzero(codes != "")
        tables = {"quarantine": _quarantine(facts.take(pa.array(rejected)), codes[rejected])}
        if len(usable):
            embedded, vectors = facts.take(pa.array(usable)), _vectors(x_ND, plan)
            tables["embeddings"] = _embeddings(embedded, vectors, plan)
            tables["sample"] = _sample(embedded, vectors, plan)
        started = time.perf_counter()
        proposal = write_proposal(
            plan.run_uri,
            tables,
            ranges=ranges_of(facts["row_id"].to_numpy()),
            started_at=float(facts["started_at"].to_numpy().min()),
        )
        timings = {
            "images": batch.num_rows,
            "pixel_bytes": batch["pixels"].nbytes,
            # As far as threads could not overlap them.
            "fetch": float(facts["fetch_seconds"].to_numpy().sum()) / plan.read.threads,
            "decode": float(facts["decode_seconds"].to_numpy().sum()),
            "forward": forward_seconds,
            "write": time.perf_counter() - started,
            "reads": _reads(facts).rows(),
        }
        return {"change": [json.dumps(proposal.to_json())], "timings": [json.dumps(timings)]}


def _pixels(batch: pa.Table, plan: EmbedPlan) -> np.ndarray:
    """(N, H, W, 3) uint8, where it lies in the object store if it is in one piece."""
    flat: np.ndarray = batch["pixels"].combine_chunks().flatten().to_numpy()
    return flat.reshape(batch.num_rows, *plan.spec.geometry.output, 3)


def _reads(facts: pa.Table) -> SourceReads:
    reads = SourceReads()
    for row in facts.select(["uri", "n_bytes", "fetch_tries", "fetch_seconds"]).to_pylist():
        if row["uri"]:
            reads.note(
                row["uri"],
                size_bytes=row["n_bytes"],
                tries=row["fetch_tries"],
                seconds=row["fetch_seconds"],
            )
    return reads


def _vectors(x_ND: np.ndarray, plan: EmbedPlan) -> pa.FixedSizeListArray:
    vector_type = embeddings_schema(x_ND.shape[1], plan.storage).field("embedding").type
    values = pa.array(x_ND.astype(plan.storage).ravel())
    return pa.FixedSizeListArray.from_arrays(values, type=vector_type)


def _embeddings(facts: pa.Table, vectors: pa.FixedSizeListArray, plan: EmbedPlan) -> pa.Table:
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
    arrays = [
        vectors if field.name == "embedding" else facts[field.name].cast(field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema).replace_schema_metadata(footer)


def _sample(facts: pa.Table, vectors: pa.FixedSizeListArray, plan: EmbedPlan) -> pa.Table:
    is_chosen = row_hash(facts["row_id"].to_numpy(), seed=plan.seed) < plan.sample_share
    chosen = pa.array(np.flatnonzero(is_chosen))
    return pa.Table.from_arrays(
        [facts["row_id"].take(chosen), vectors.take(chosen), facts["thumbnail"].take(chosen)],
        schema=sample_schema(vectors.type.list_size, plan.storage),
    )


def _quarantine(facts: pa.Table, codes: np.ndarray) -> pa.Table:
    columns = {name: facts[name] for name in facts.column_names} | {
        "code": pa.array(codes.tolist(), pa.string())
    }
    return pa.table([columns[field.name].cast(field.type) for field in QUARANTINE], QUARANTINE)
