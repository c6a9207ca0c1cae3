"""The section `compute`: where the work is done and how fast. It decides no result."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from clusterlib.config.fields import Positive, Section


class ActorsConfig(Section):
    min: Positive = Field(
        1, description="Encoder actors that are always kept, where there is a max; else all are."
    )
    max: Positive | None = Field(
        None,
        description="Upper bound; default: as many as fit on the GPUs, or one for each core.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> ActorsConfig:
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min={self.min} is above max={self.max}; swap them")
        return self


class EmbedComputeConfig(Section):
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto takes cuda when the Ray cluster has GPUs, and says which."
    )
    gpus_per_actor: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Ray GPUs an encoder actor reserves; default 1 on cuda, none on cpu."
    )
    actors: ActorsConfig = Field(default_factory=lambda: ActorsConfig())
    accelerator_type: str | None = Field(
        None, description="Kind of GPU to run on where a cluster has several, such as L4 or A100."
    )
    batch_size: Positive | None = Field(
        None,
        description="Images in one forward pass; default: as many as are fastest, found by trying.",
    )
    runtime: Literal["torch", "openvino"] = Field(
        "torch",
        description="What runs the network; openvino, by the extra of that name, is faster on "
        "CPUs and runs on nothing else.",
    )
    compile: bool = Field(
        False,
        description="Compile the network with torch.compile: half a minute at the start of every "
        "actor, then faster; for large catalogues.",
    )
    torch_threads: Positive | None = Field(
        None, description="CPU threads of an encoder actor; default 1, and an actor for each core."
    )
    block_rows: Positive = Field(256, description="Images fetched and decoded by one task.")
    fetch_threads: Positive = Field(16, description="Concurrent reads of one task.")


class ComputeConfig(Section):
    """Where and how fast; never what. Not part of any fingerprint."""

    ray_address: str = Field(
        "local",
        description="local starts Ray here; auto or ray://... joins one. `ray job submit` decides "
        "by itself.",
    )
    commit_seconds: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Finished work is committed at least this often."
    )
    single_writer: bool = Field(
        False,
        description="For a store that cannot create a file only if it is absent: you vouch that no "
        "two jobs ever work on this run at once.",
    )
    embed: EmbedComputeConfig = Field(default_factory=lambda: EmbedComputeConfig())
