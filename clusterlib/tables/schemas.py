"""The Arrow schema of every artifact of a run. Contract tests pin them; change them with care."""

from __future__ import annotations

import pyarrow as pa

CATALOG = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),  # ordinal in the frozen catalogue
        pa.field("image_id", pa.string(), nullable=False),  # unique; what people see
        pa.field("uri", pa.string()),  # null when a table row had none
        pa.field("size_bytes", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("group", pa.string()),
        pa.field("label", pa.string()),
    ]
)

QUARANTINE = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("code", pa.string(), nullable=False),  # clusterlib.images.codes
        pa.field("detail", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
    ]
)

ASSIGNMENTS = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("cluster_id", pa.int32(), nullable=False),  # -1 is noise
        pa.field("distance", pa.float32(), nullable=False),  # cosine distance to the centroid
        pa.field("second_cluster_id", pa.int32(), nullable=False),
        pa.field("margin", pa.float32(), nullable=False),  # distance to the second - distance
        pa.field("silhouette", pa.float32(), nullable=False),
        pa.field("is_outlier", pa.bool_(), nullable=False),
        pa.field("micro_id", pa.int32(), nullable=False),  # leaf of HIERARCHY; -1 is noise
    ]
)

_PICKS = pa.list_(
    pa.struct([("row_id", pa.int64()), ("image_id", pa.string()), ("uri", pa.string())])
)

CLUSTERS = pa.schema(
    [
        pa.field("cluster_id", pa.int32(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("spread", pa.float64(), nullable=False),  # mean cosine distance to the centroid
        pa.field("silhouette", pa.float64(), nullable=False),  # mean
        pa.field("negative_share", pa.float64(), nullable=False),  # rows with silhouette < 0
        pa.field("outliers", pa.int64(), nullable=False),
        pa.field("majority_label", pa.string()),  # from the catalogue's label column
        pa.field("majority_share", pa.float64()),
        pa.field("nearest", _PICKS, nullable=False),
        pa.field("boundary", _PICKS, nullable=False),
        pa.field("random", _PICKS, nullable=False),
        pa.field("diverse", _PICKS, nullable=False),  # far from each other; of the sample
        # At 5, 25, 50, 75 and 95 % of the rows' silhouettes; exact to half a bin of the next.
        pa.field("silhouette_quantiles", pa.list_(pa.float64()), nullable=False),
        pa.field("silhouette_histogram", pa.list_(pa.int64()), nullable=False),  # bins of -1...1
    ]
)

# Share of the variance on each principal axis of the embeddings, largest first.
VARIANCE = pa.schema(
    [
        pa.field("axis", pa.int32(), nullable=False),  # from 1
        pa.field("share", pa.float64(), nullable=False),
        pa.field("cumulative", pa.float64(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),  # whether clusters were made in it
    ]
)

# One row a node. Nodes 0...M-1 are the micro-clusters (leaves); node M + i is made by merge i, and
# all merges inside clusters come before those of clusters. So undoing the last K - 1 merges gives
# the K clusters, and undoing more of them splits clusters. Columns as in a linkage of SciPy.
HIERARCHY = pa.schema(
    [
        pa.field("node", pa.int32(), nullable=False),
        pa.field("left", pa.int32()),  # null for a leaf
        pa.field("right", pa.int32()),
        pa.field("height", pa.float64(), nullable=False),  # sqrt(2 x rise of inertia); leaf: 0
        pa.field("size", pa.int64(), nullable=False),  # training rows below
        pa.field("cluster_id", pa.int32()),  # that the node is or lies in; null above clusters
    ]
)

SWEEP = pa.schema(
    [
        pa.field("k", pa.int32(), nullable=False),
        pa.field("inertia", pa.float64(), nullable=False),
        pa.field("silhouette", pa.float64()),  # null where it is not defined
        pa.field("smallest", pa.int64(), nullable=False),
        pa.field("largest", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("davies_bouldin", pa.float64()),
        pa.field("calinski_harabasz", pa.float64()),
        pa.field("gap", pa.float64()),  # this and the next two: of at most 5,000 sampled rows
        pa.field("gap_se", pa.float64()),
        pa.field("stability", pa.float64()),  # adjusted Rand index of two half-samples
    ]
)

MANIFEST = pa.schema(
    [
        *[f for f in CATALOG if f.name not in ("size_bytes", "etag")],
        pa.field("cluster_id", pa.int32()),  # null for a quarantined image
        *[ASSIGNMENTS.field(n).with_nullable(True) for n in ASSIGNMENTS.names[4:-1]],
        pa.field("width", pa.int32()),  # pixels, upright
        pa.field("height", pa.int32()),
        pa.field("rejected", pa.string()),  # quarantine code, null for a clustered image
    ]
)

LABELS = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("cluster_id", pa.int32()),
        pa.field("label", pa.string()),  # null where the cluster was left unnamed
        # image | cluster | model; without a label: mixed | split | junk | unnamed | rejected
        pa.field("label_source", pa.string(), nullable=False),
        pa.field("confidence", pa.float32()),  # 0...1; null where there is no label
    ]
)

CLUSTER_NAMES_COLUMNS = (
    "run_id",
    "fit_id",
    "cluster_id",
    "size",
    "exemplar_uris",
    "proposal",  # of the encoder's text tower, for people to take or leave
    "name",
    "purity",
    "notes",
)

EXTRA = "extra"  # struct column with the user's own columns; only present when there are any


def with_extra(schema: pa.Schema, extra_type: pa.StructType | None) -> pa.Schema:
    """`schema` followed by the `extra` struct of the user's own columns, when there are any."""
    return schema if extra_type is None else schema.append(pa.field(EXTRA, extra_type))


def embeddings_schema(dim: int, storage: str) -> pa.Schema:
    """Embeddings of `dim` values stored as `storage` (float16 or float32), unit length."""
    return pa.schema(
        [
            pa.field("row_id", pa.int64(), nullable=False),
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("uri", pa.string()),
            vector_field(dim, storage),
            pa.field("width", pa.int32(), nullable=False),  # pixels, upright
            pa.field("height", pa.int32(), nullable=False),
            pa.field("n_frames", pa.int32(), nullable=False),
            pa.field("content_hash", pa.string(), nullable=False),  # blake2b-128 of the file, hex
        ]
    )


def sample_schema(dim: int, storage: str) -> pa.Schema:
    """The training sample: embedding and a 64 px WebP thumbnail."""
    return pa.schema(
        [
            pa.field("row_id", pa.int64(), nullable=False),
            vector_field(dim, storage),
            pa.field("thumbnail", pa.binary(), nullable=False),
        ]
    )


def vector_field(dim: int, storage: str) -> pa.Field:
    """The `embedding` column: a fixed-size list that other Parquet readers understand."""
    value = {"float16": pa.float16(), "float32": pa.float32()}[storage]
    return pa.field("embedding", pa.list_(pa.field("item", value, nullable=False), dim))
