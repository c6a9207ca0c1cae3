"""Where encoders run on a given cluster, and how work is cut."""

from __future__ import annotations

import pytest

from clusterlib.config import EmbedComputeConfig
from clusterlib.errors import ConfigError
from clusterlib.stages.embedding.placement import place
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


def test_without_gpus_an_actor_for_each_core_and_half_of_it_for_decoding() -> None:
    assert placed({"CPU": 8}) == ("cpu", 0.0, 0.5, 8)
    assert placed({"CPU": 8}, torch_threads=4) == ("cpu", 0.0, 2.0, 2)
    placement = place(EmbedComputeConfig(), {"CPU": 8})
    assert (placement.threads, placement.cpus_per_task, placement.initial_actors) == (1, 0.5, 8)


@pytest.mark.parametrize("cpus", [1, 2, 7])
@pytest.mark.parametrize("options", [{}, {"torch_threads": 3}, {"actors": {"min": 9, "max": 12}}])
def test_actors_leave_room_for_a_decoding_task(cpus: int, options: dict[str, object]) -> None:
    placement = place(EmbedComputeConfig.model_validate(options), {"CPU": cpus})
    left = cpus - placement.max_actors * placement.cpus_per_actor
    assert left >= placement.cpus_per_task
    gpu = place(EmbedComputeConfig.model_validate(options), {"CPU": cpus, "GPU": cpus})
    assert cpus - gpu.max_actors * gpu.cpus_per_actor >= gpu.cpus_per_task


def test_a_kind_of_gpu_is_asked_for_by_name() -> None:
    config = EmbedComputeConfig(accelerator_type="L4")
    on_gpu, on_cpu = place(config, {"CPU": 8, "GPU": 2}), place(config, {"CPU": 8})
    assert on_gpu.options() == {"num_cpus": 1.0, "num_gpus": 1.0, "accelerator_type": "L4"}
    assert "of L4" in str(on_gpu)
    assert "accelerator_type" not in on_cpu.options()


def test_little_work_or_memory_takes_fewer_actors() -> None:
    placement = place(EmbedComputeConfig(), {"CPU": 8}).at_most(3)
    assert (placement.max_actors, placement.initial_actors, placement.min_actors) == (3, 3, 3)
    assert placement.at_most(0).max_actors == 1


def test_the_pool_is_fixed_unless_it_has_an_upper_bound() -> None:
    resources = {"CPU": 8.0, "GPU": 4.0}
    assert place(EmbedComputeConfig(), resources).min_actors == 4
    bounded = EmbedComputeConfig.model_validate({"actors": {"min": 2, "max": 6}})
    assert place(bounded, resources).min_actors == 2


def test_cuda_is_never_silently_replaced() -> None:
    with pytest.raises(ConfigError, match="has no GPU"):
        placed({"CPU": 8}, device="cuda")
    assert placed({"CPU": 8}, device="cuda", actors={"max": 3})[3] == 3


def test_openvino_is_for_cpus() -> None:
    with pytest.raises(ConfigError, match="runs on CPUs only"):
        placed({"CPU": 8, "GPU": 1}, runtime="openvino")
    assert placed({"CPU": 8, "GPU": 1}, runtime="openvino", device="cpu")[0] == "cpu"
    with pytest.raises(ConfigError, match="openvino compiles by itself"):
        placed({"CPU": 8}, runtime="openvino", compile=True)


def test_split_ranges() -> None:
    assert split_ranges(((0, 5), (7, 9)), 2) == [(0, 2), (2, 4), (4, 5), (7, 9)]
