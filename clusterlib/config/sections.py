"""The sections of a configuration, validated and frozen.

Sections decide *results* and are fingerprinted, except `run_uri` (where results go), `compute`
(where and how fast the work is done) and `compare` (a trial beside the run).
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from clusterlib.config.compute import ComputeConfig
from clusterlib.config.fields import Fraction, Positive, Section

# Every centroid should see this many training rows at the very least (faiss advises 39).
MIN_SAMPLE_ROWS_PER_CLUSTER = 8


class CatalogConfig(Section):
    """Which images there are."""

    source: str = Field(
        description="A folder or object-store prefix, a .csv/.parquet/.jsonl table of image URIs, "
        "or digits:<folder> for the embedded example."
    )
    uri_column: str = Field("uri", description="Table column that holds paths or URIs.")
    id_column: str | None = Field(
        None, description="Table column with a unique image_id; else derived from the URI."
    )
    group_column: str | None = Field(None, description="Table column such as a product id.")
    label_column: str | None = Field(None, description="Table column with true labels, if known.")
    suffixes: tuple[str, ...] = Field(
        (".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".jp2"),
        description="File name endings that a folder listing takes for images; '' takes all.",
    )


ImageFormat = Literal["JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "HEIF"]


class ImagesConfig(Section):
    """What a usable image is."""

    max_bytes: Positive = Field(64 * 2**20, description="Larger files are quarantined unread.")
    max_pixels: Positive = Field(64_000_000, description="Larger images are never decoded.")
    formats: tuple[ImageFormat, ...] = Field(
        ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000"),
        description="Formats that are decoded, whatever a file's name says; HEIF needs the extra "
        "heic, and .heic among catalog.suffixes.",
    )
    background: Annotated[str, Field(pattern="^#[0-9a-f]{6}$")] = Field(
        "#ffffff", description="Colour behind transparent and around small pictures, #rrggbb."
    )
    # The next two decide no result of a sound image, so they may change between attempts.
    max_decode_seconds: Annotated[float, Field(gt=0)] = Field(
        20.0, description="An image that takes longer is tried once more, then quarantined."
    )
    max_decode_mb: Annotated[int, Field(ge=64)] = Field(
        2048, description="Memory that decoding one image may take, MiB; Linux only."
    )
    max_reject_fraction: Fraction = Field(
        0.05, description="Above this share of quarantined images the job ends with exit code 4."
    )


class EncoderConfig(Section):
    """Which network turns an image into a vector."""

    model: str = Field(
        "efficientnet-lite0",
        description="efficientnet-lite0, hf:<id or folder>[@revision], "
        "torchvision:<name>[:<weights name or .safetensors file>], "
        "timm:<name>[:<.safetensors file>], classic:hog, classic:color.",
    )
    pooling: Literal["auto", "cls", "mean", "pooler", "projection", "flatten"] = Field(
        "auto",
        description="Which output is the embedding: auto, the model family's usual one; cls, the "
        "class token; mean, over patches or the last feature map; pooler, the layer before the "
        "classifier; projection, of CLIP; flatten, the whole last feature map.",
    )
    precision: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Arithmetic of the forward pass."
    )
    storage: Literal["float16", "float32"] = Field(
        "float32", description="Type of the embeddings on disk."
    )


class SampleConfig(Section):
    """The uniform sample that the clustering is trained on."""

    rows: Annotated[int, Field(ge=10)] = Field(
        50_000, description="Expected size; the sample fits in the driver's memory."
    )


class ClusteringConfig(Section):
    """How groups are made and how many."""

    k: Literal["auto"] | Annotated[int, Field(ge=2)] | tuple[Annotated[int, Field(ge=2)], ...] = (
        Field(
            "auto",
            description="Number of clusters; auto to choose from the sweep; or a list of numbers "
            "to choose from.",
        )
    )
    k_min: Annotated[int, Field(ge=2)] = Field(4, description="Smallest k of the sweep.")
    k_max: Annotated[int, Field(ge=2)] = Field(64, description="Largest k of the sweep.")
    k_count: Positive = Field(10, description="How many values of k the sweep tries.")
    method: Literal[
        "auto", "kmeans", "manifold", "ward", "average", "hdbscan", "dbscan", "plane"
    ] = Field(
        "auto",
        description="auto: manifold, or kmeans when more than 100,000 images are sampled; "
        "manifold: k-means on a layout of the sample's neighbor graph; ward, average: "
        "agglomerative; hdbscan, dbscan: by density, they choose k and leave noise (cluster -1); "
        "plane: k-means on a map in two dimensions, for comparison.",
    )
    # Mean AMI at the true k over digits, digit pixels and drawings: benchmarks/clustering.md.
    pca_dim: int | float = Field(
        64,
        gt=0,
        description="Dimensions kept by PCA before clustering; below 1: as many as hold this share "
        "of the variance.",
    )
    space: Literal["sample", "exact"] = Field(
        "sample",
        description="What the PCA is taken from: the sample, or all embeddings in one more scan.",
    )
    min_size: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Smaller clusters are folded into others: images, or their share when below 1; "
        "as the sample tells.",
    )
    max_size: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Larger clusters are split: images, or their share when below 1; as the sample "
        "tells.",
    )
    scaling: Literal["whitened", "partial", "centered"] = Field(
        "partial",
        description="whitened gives every kept dimension the same variance, partial brings them "
        "nearer to each other, centered leaves them.",
    )
    iterations: Positive = Field(4, description="k-means iterations that polish each cut.")
    statistics: Literal["exact", "sample"] = Field(
        "exact",
        description="Means and outlier limits behind each row's silhouette and outlier flag: exact "
        "reads the embeddings once more to take them from all rows, sample from sampled ones.",
    )
    fit_from: str | None = Field(
        None,
        description="Another run, or one of its fits, whose clusters and labels these images get; "
        "the settings of this section are then not used.",
    )
    min_cluster_rows: Annotated[int, Field(ge=2)] = Field(
        10, description="Smallest cluster of hdbscan and core of dbscan, in sampled rows."
    )

    @model_validator(mode="after")
    def _ordered(self) -> ClusteringConfig:
        if self.k == ():
            raise ValueError("k=[] leaves nothing to choose from; name numbers, or say auto")
        if self.k_min > self.k_max:
            raise ValueError(f"k_min={self.k_min} is above k_max={self.k_max}; swap them")
        if self.pca_dim >= 1 and self.pca_dim != int(self.pca_dim):
            raise ValueError(
                f"pca_dim={self.pca_dim} is neither a number of dimensions nor a share below 1"
            )
        low, high = self.min_size, self.max_size
        if low and high and (low < 1) == (high < 1) and high < 2 * low:
            raise ValueError(
                f"max_size={high:g} is below twice min_size={low:g}, so that halves of a large "
                "cluster would be too small; raise max_size or lower min_size"
            )
        return self


ManifestFormat = Literal[
    "parquet",
    "csv",
    "label_studio",
    "cluster_tasks",
    "datumaro",
    "cvat",
    "sagemaker",
    "vertex",
    "azureml",
    "fiftyone",
    "folders",
    "npy",
]


class ManifestsConfig(Section):
    """What is written for labelling teams."""

    formats: tuple[ManifestFormat, ...] = Field(
        ("parquet", "csv", "label_studio", "cluster_tasks"), description="Which manifests to write."
    )
    rows_per_file: Annotated[int, Field(ge=1, le=100_000)] = Field(
        50_000, description="Rows of a manifest file; Label Studio advises at most 100,000."
    )
    uri_prefixes: dict[str, str] = Field(
        default_factory=dict,
        description="Beginning of an image URI to what stands for it where labelling tools run; "
        "the longest match counts.",
    )
    sign_seconds: Positive | None = Field(
        None,
        description="Images in a store get an address that needs no credentials for this long; "
        "they come out in manifests, so give those to nobody else.",
    )
    review_budget: Positive = Field(
        100, description="Images that apply_labels asks people about next."
    )
    vocabulary: str | None = Field(
        None,
        description="Text file with one name a line: the encoder's text tower (CLIP or SigLIP) "
        "proposes those that fit each cluster, for people to judge.",
    )
    prompts: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        ("a photo of a {}.",), description="Phrases that names of the vocabulary are put into."
    )

    @model_validator(mode="after")
    def _prompts_hold_a_name(self) -> ManifestsConfig:
        for prompt in self.prompts:
            if "{}" not in prompt:
                raise ValueError(f"prompts: '{prompt}' has no {{}} where the name goes; add it")
        return self


class ReportConfig(Section):
    """What analysts open."""

    title: str = Field("Image clusters", description="Heading of the page.")
    thumbnail_size: Annotated[int, Field(ge=32, le=512)] = Field(
        112, description="Side of a picture on the contact sheets, pixels."
    )
    map: Literal["auto", "pacmap", "tsne", "pca"] = Field(
        "auto",
        description="Projection of the map; auto is PaCMAP where installed, else t-SNE up to 5,000 "
        "points, else PCA.",
    )
    map_points: Annotated[int, Field(ge=1, le=100_000)] = Field(
        20_000, description="Expected number of images on the map, of the sample."
    )
    max_mb: Annotated[int, Field(ge=5)] = Field(
        200, description="About this large a report may get, MiB: pictures give way."
    )


class CompareConfig(Section):
    """Which encoders jobs.compare_encoders tries. Decides nothing of the run itself."""

    models: tuple[str, ...] = Field(
        (), description="Model strings as in encoder.model, each tried on the same images."
    )
    rows: Annotated[int, Field(ge=10)] = Field(
        2_000, description="Images tried, chosen by a hash of row and seed."
    )


class Config(Section):
    """The whole configuration of a run."""

    run_uri: str = Field(description="Folder or object-store prefix that receives the run.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the sample and of k-means.")
    catalog: CatalogConfig
    images: ImagesConfig = Field(default_factory=lambda: ImagesConfig())
    encoder: EncoderConfig = Field(default_factory=lambda: EncoderConfig())
    sample: SampleConfig = Field(default_factory=lambda: SampleConfig())
    clustering: ClusteringConfig = Field(default_factory=lambda: ClusteringConfig())
    manifests: ManifestsConfig = Field(default_factory=lambda: ManifestsConfig())
    report: ReportConfig = Field(default_factory=lambda: ReportConfig())
    compare: CompareConfig = Field(default_factory=lambda: CompareConfig())
    compute: ComputeConfig = Field(default_factory=lambda: ComputeConfig())

    # key path -> text with ${env:NAME}, so that what is written never holds the expanded value
    _placeholders: dict[tuple[str, ...], str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _sample_fits(self) -> Config:
        largest = self.clustering.k_max
        if self.clustering.k != "auto":
            asked = self.clustering.k
            largest = max(largest, asked) if isinstance(asked, int) else max(asked)
        needed = largest * MIN_SAMPLE_ROWS_PER_CLUSTER
        if self.sample.rows < needed:
            raise ValueError(
                f"sample.rows={self.sample.rows} is too few for {largest} clusters: raise "
                f"sample.rows to at least {needed} or lower clustering.k_max"
            )
        return self

    def dump(self) -> dict[str, Any]:
        """The resolved settings as plain values, ${env:NAME} placeholders kept."""
        tree: dict[str, Any] = json.loads(self.model_dump_json())
        for path, text in self._placeholders.items():
            node: Any = tree
            for key in path[:-1]:
                node = _child(node, key)
            node[int(path[-1]) if isinstance(node, list) else path[-1]] = text
        return tree

    def result_tree(self) -> dict[str, Any]:
        """`dump` without what decides no result; an expanded placeholder shows as a short hash.

        Two values of one ${env:NAME} are two settings, though neither is ever written.
        """
        tree = self.dump()
        values = json.loads(self.model_dump_json())
        for path in self._placeholders:
            node, value = tree, values
            for key in path[:-1]:
                node, value = _child(node, key), _child(value, key)
            last = int(path[-1]) if isinstance(node, list) else path[-1]
            digest = hashlib.sha256(json.dumps(value[last]).encode()).hexdigest()[:8]
            node[last] = f"{node[last]} #{digest}"
        for section in ("run_uri", "compute", "compare"):
            del tree[section]
        return tree


def _child(node: Any, key: str) -> Any:
    return node[int(key)] if isinstance(node, list) else node[key]
