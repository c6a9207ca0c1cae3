"""The schemas are a contract between stages, versions and other tools: pinned word by word."""

from __future__ import annotations

import pyarrow as pa

from clusterlib.tables import schemas


def text(schema: pa.Schema) -> list[str]:
    return [f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in schema]


def test_catalog() -> None:
    assert text(schemas.CATALOG) == [
        "row_id: int64 not null",
        "image_id: string not null",
        "uri: string",
        "size_bytes: int64",
        "etag: string",
        "group: string",
        "label: string",
    ]


def test_extra_is_a_struct_only_when_there_is_something_in_it() -> None:
    extra = pa.struct([("price", pa.float64())])
    assert text(schemas.with_extra(schemas.CATALOG, extra))[-1] == "extra: struct<price: double>"
    assert schemas.with_extra(schemas.CATALOG, None) == schemas.CATALOG


def test_embeddings() -> None:
    assert text(schemas.embeddings_schema(3, "float16")) == [
        "row_id: int64 not null",
        "image_id: string not null",
        "uri: string",
        "embedding: fixed_size_list<item: halffloat not null>[3]",
        "width: int32 not null",
        "height: int32 not null",
        "n_frames: int32 not null",
        "content_hash: string not null",
    ]


def test_sample() -> None:
    assert text(schemas.sample_schema(2, "float32")) == [
        "row_id: int64 not null",
        "embedding: fixed_size_list<item: float not null>[2]",
        "thumbnail: binary not null",
    ]


def test_quarantine() -> None:
    assert text(schemas.QUARANTINE) == [
        "row_id: int64 not null",
        "image_id: string not null",
        "uri: string",
        "code: string not null",
        "detail: string",
        "attempts: int32 not null",
    ]


def test_assignments() -> None:
    assert text(schemas.ASSIGNMENTS) == [
        "row_id: int64 not null",
        "image_id: string not null",
        "uri: string",
        "cluster_id: int32 not null",
        "distance: float not null",
        "second_cluster_id: int32 not null",
        "margin: float not null",
        "silhouette: float not null",
        "is_outlier: bool not null",
        "micro_id: int32 not null",
    ]


def test_hierarchy() -> None:
    assert text(schemas.HIERARCHY) == [
        "node: int32 not null",
        "left: int32",
        "right: int32",
        "height: double not null",
        "size: int64 not null",
        "cluster_id: int32",
    ]


def test_clusters() -> None:
    picks = "list<item: struct<row_id: int64, image_id: string, uri: string>>"
    assert text(schemas.CLUSTERS) == [
        "cluster_id: int32 not null",
        "size: int64 not null",
        "spread: double not null",
        "silhouette: double not null",
        "negative_share: double not null",
        "outliers: int64 not null",
        "majority_label: string",
        "majority_share: double",
        f"nearest: {picks} not null",
        f"boundary: {picks} not null",
        f"random: {picks} not null",
        f"diverse: {picks} not null",
        "silhouette_quantiles: list<item: double> not null",
        "silhouette_histogram: list<item: int64> not null",
    ]


def test_variance() -> None:
    assert text(schemas.VARIANCE) == [
        "axis: int32 not null",
        "share: double not null",
        "cumulative: double not null",
        "kept: bool not null",
    ]


def test_sweep() -> None:
    assert text(schemas.SWEEP) == [
        "k: int32 not null",
        "inertia: double not null",
        "silhouette: double",
        "smallest: int64 not null",
        "largest: int64 not null",
        "seconds: double not null",
        "davies_bouldin: double",
        "calinski_harabasz: double",
        "gap: double",
        "gap_se: double",
        "stability: double",
    ]


def test_manifest() -> None:
    assert text(schemas.MANIFEST) == [
        "row_id: int64 not null",
        "image_id: string not null",
        "uri: string",
        "group: string",
        "label: string",
        "cluster_id: int32",
        "distance: float",
        "second_cluster_id: int32",
        "margin: float",
        "silhouette: float",
        "is_outlier: bool",
        "width: int32",
        "height: int32",
        "rejected: string",
    ]


def test_labels() -> None:
    assert text(schemas.LABELS) == [
        "row_id: int64 not null",
        "image_id: string not null",
        "uri: string",
        "cluster_id: int32",
        "label: string",
        "label_source: string not null",
        "confidence: float",
    ]
