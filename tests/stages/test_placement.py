"""Where encoders run on a given cluster, and how work is cut."""

from __future__ import annotations

import pytest

from clusterlib.config import EmbedComputeConfig
from clusterlib.errors import ConfigError
from clusterlib.stages.embed_placement import place
from clusterlib.stages.streaming import split_ranges


def placed(resources: dict[str, float], **options: object) -> tuple[str, float, float, int]:
    placement = place(EmbedComputeConfig.model_validate(options), resources)
    return (
        placement.device,
        placement.gpus_per_actor,
        placement.cpus_per_actor,
        placement.max_actors,
    )


def test_auto_takes_every_gpu() -> None:
    assert placed({"CPU": 64, "GPU": 4}) == ("cuda", 1.0, 1.0, 4)


def test_fractions_put_several_actors_on_a_gpu() -> None:
    assert placed({"CPU": 64, "GPU": 2}, gpus_per_actor=0.5) == ("cuda", 0.5, 1.0, 4)


def test_without_gpus_one_actor_on_the_cpu() -> None:
    assert placed({"CPU": 8}) == ("cpu", 0.0, 1.0, 1)


def test_actors_never_take_the_last_cpu() -> None:
    assert placed({"CPU": 1}) == ("cpu", 0.0, 0.0, 1)
    assert placed({"CPU": 4, "GPU": 4}) == ("cuda", 1.0, 0.0, 4)


def test_cuda_is_never_silently_replaced() -> None:
    with pytest.raises(ConfigError, match="has no GPU"):
        placed({"CPU": 8}, device="cuda")
    assert placed({"CPU": 8}, device="cuda", actors={"max": 3})[3] == 3


def test_split_ranges() -> None:
    assert split_ranges(((0, 5), (7, 9)), 2) == [(0, 2), (2, 4), (4, 5), (7, 9)]
