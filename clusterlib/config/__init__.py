"""YAML + key=value overrides -> one frozen, validated tree."""

from clusterlib.config.compute import EmbedComputeConfig
from clusterlib.config.loading import (
    dump_yaml,
    json_schema,
    load_config,
    result_settings,
    validate_config,
)
from clusterlib.config.sections import (
    CatalogConfig,
    ClusteringConfig,
    Config,
    EncoderConfig,
    ManifestFormat,
    ManifestsConfig,
)

__all__ = [
    "CatalogConfig",
    "ClusteringConfig",
    "Config",
    "EmbedComputeConfig",
    "EncoderConfig",
    "ManifestFormat",
    "ManifestsConfig",
    "dump_yaml",
    "json_schema",
    "load_config",
    "result_settings",
    "validate_config",
]
