"""Where encoders run on a given cluster, and how many."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from clusterlib.config import EmbedComputeConfig
from clusterlib.errors import ConfigError


@dataclass(frozen=True)
class Placement:
    """Where the encoder runs; Ray's logical CPUs of an encoder actor and of a decoding task."""

    device: str
    gpus_per_actor: float
    cpus_per_actor: float
    cpus_per_task: float
    threads: int
    min_actors: int
    max_actors: int
    initial_actors: int
    accelerator_type: str | None = None

    def __str__(self) -> str:
        gpus = f" with {self.gpus_per_actor:g} GPU each" if self.gpus_per_actor else ""
        kind = f" of {self.accelerator_type}" if self.accelerator_type else ""
        fixed = self.min_actors == self.max_actors or self.initial_actors == self.max_actors
        actors = str(self.max_actors) if fixed else f"{self.min_actors}-{self.max_actors}"
        plural = "s" if self.max_actors > 1 else ""
        return f"{actors} encoder actor{plural} on {self.device}{gpus}{kind}"

    def at_most(self, actors: int) -> Placement:
        """This one with no more than `actors` actors, and at least one."""
        most = max(1, actors)
        return replace(
            self,
            min_actors=min(self.min_actors, most),
            max_actors=min(self.max_actors, most),
            initial_actors=min(self.initial_actors, most),
        )

    def options(self) -> dict[str, Any]:
        """What Ray is asked for, for one encoder."""
        accelerator = {"accelerator_type": self.accelerator_type} if self.accelerator_type else {}
        return {
            "num_cpus": self.cpus_per_actor,
            "num_gpus": self.gpus_per_actor or None,
            **accelerator,
        }


def place(config: EmbedComputeConfig, resources: dict[str, float]) -> Placement:
    """Where encoders run on a cluster with these Ray resources.

    Raises:
        ConfigError: cuda is asked for and the cluster has no GPU and cannot be expected to get one;
            openvino for a GPU, or compiled by torch.
    """
    gpus, cpus = resources.get("GPU", 0), resources.get("CPU", 1)
    device = config.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda" and config.runtime == "openvino":
        raise ConfigError(
            "compute.embed.runtime: openvino runs on CPUs only; set compute.embed.device=cpu or "
            "compute.embed.runtime=torch"
        )
    if config.compile and config.runtime != "torch":
        raise ConfigError(
            f"compute.embed.compile: it is torch's; {config.runtime} compiles by itself, so set "
            "compute.embed.compile=false"
        )
    gpus_per_actor = config.gpus_per_actor or (1.0 if device == "cuda" else 0.0)
    if device == "cuda" and not gpus and config.actors.max is None:
        raise ConfigError(
            "compute.embed.device: cuda, but the Ray cluster has no GPU; set "
            "compute.embed.device=cpu, or compute.embed.actors.max when GPU nodes start on demand"
        )
    threads = config.torch_threads or 1
    # On CPUs as many as there are cores: one thread each beats several threads that wait for each
    # other and for a decoder on the same core.
    fitting = int(gpus / gpus_per_actor) if device == "cuda" else int(cpus // threads)
    most = config.actors.max or max(config.actors.min, fitting, 1)
    if device == "cuda":
        # Actors must leave a CPU for the decoding tasks, or nothing ever moves.
        per_actor, per_task = (1.0 if cpus > most else 0.0), 1.0
    else:
        # Encoder and decoder share the cores half and half by Ray's count; the system shares them
        # as they need.
        per_actor, per_task = min(0.5 * threads, 0.5 * cpus / most), 0.5
    return Placement(
        device=device,
        gpus_per_actor=gpus_per_actor,
        cpus_per_actor=per_actor,
        cpus_per_task=per_task,
        threads=threads,
        # Fixed unless asked otherwise: Ray ends an actor that waits for a moment, and its successor
        # loads the network again.
        min_actors=config.actors.min if config.actors.max else most,
        max_actors=most,
        initial_actors=max(config.actors.min, min(most, fitting)),
        accelerator_type=config.accelerator_type if device == "cuda" else None,
    )
