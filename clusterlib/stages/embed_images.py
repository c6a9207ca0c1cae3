"""Stage 2: fetch, decode and embed every image; each ends as an embedding or a quarantine row.

CPU tasks fetch and decode a block of catalogue rows each; encoder actors embed the block, write it
as Parquet and propose it; the driver commits proposals as they stream in. No pixels reach the
driver.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import ray

from clusterlib.config import Config, EmbedComputeConfig
from clusterlib.encoders.select import describe_encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import (
    ConfigError,
    InputError,
    TooManyRejectsError,
    WorkersLostError,
)
from clusterlib.images.decode import HEIF, Limits, register_heif
from clusterlib.images.guard import GuardLimits
from clusterlib.run import fingerprint
from clusterlib.stages.build_catalog import folder_root
from clusterlib.stages.compact_table import compact_table
from clusterlib.stages.embed_workers import EmbedPlan, EncoderActor, fetch_and_decode
from clusterlib.stages.fetching import ReadPlan
from clusterlib.stages.progress import StageProgress
from clusterlib.stages.session import Session, run_id
from clusterlib.stages.streaming import (
    MAX_RETRIES,
    commit_stream,
    map_batches,
    run_tasks,
    split_ranges,
)
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet

DATASETS = ("embeddings", "quarantine", "sample")
MAX_POOR_PASSES = 3


@dataclass(frozen=True)
class Placement:
    """Where the encoder runs."""

    device: str
    gpus_per_actor: float
    cpus_per_actor: float
    min_actors: int
    max_actors: int
    batch_size: int

    def __str__(self) -> str:
        gpus = f" with {self.gpus_per_actor:g} GPU each" if self.gpus_per_actor else ""
        actors = f"{self.min_actors}-{self.max_actors}" if self.max_actors > 1 else "1"
        return f"{actors} encoder actor{'s' if self.max_actors > 1 else ''} on {self.device}{gpus}"


def embed_images(session: Session) -> None:
    """Embed what is not committed yet.

    Raises:
        StaleArtifactError: the run holds embeddings made with other settings.
        InputError: the store keeps failing, or workers keep dying; what is committed stays, and the
            same command resumes.
        TooManyRejectsError: every image is unusable, so that nothing can follow.
    """
    with session.stage("embed_images") as (progress, facts):
        catalog = session.catalog()
        spec = _described(session.config)
        settings = session.embed_settings(catalog) | {
            "encoder.revision": spec.revision,
            "encoder.used_pooling": spec.pooling,
            "encoder.preprocessing": fingerprint(spec.settings()),
        }
        table = session.table(session.run.uri, log=session.run.embed_log, rows=catalog.rows)
        table.open(settings)
        done_before = len(table.state.committed)
        progress.total(catalog.rows, done=done_before)
        if not table.is_complete:
            _embed_missing(session, table, spec, progress, facts, run_id=fingerprint(settings))
        compact_table(session, table, DATASETS)
        _report_counts(session, table, progress, facts, done_before)
        facts["run_id"] = run_id(settings, table)
    if table.count("embeddings") == 0:
        check_rejects(session)


def _described(config: Config) -> EncoderSpec:
    """The encoder, its pictures on the configured background; whether HEIF can be read is tried."""
    if HEIF in config.images.formats:
        register_heif()
    spec = describe_encoder(config.encoder)
    return replace(spec, geometry=replace(spec.geometry, background=config.images.background))


def _embed_missing(
    session: Session,
    table: CommittedTable,
    spec: EncoderSpec,
    progress: StageProgress,
    facts: dict[str, Any],
    *,
    run_id: str,
) -> None:
    session.start_ray()
    placement = place(session.config.compute.embed, ray.cluster_resources())
    facts["placement"] = str(placement)
    progress.note(str(placement))
    if placement.device == "cpu" and session.config.encoder.precision == "float16":
        session.screen.say("note: float16 is slow on a CPU; encoder.precision=bfloat16 is not")
    progress.begin()
    plan = _plan(session, spec, table, run_id=run_id)
    poor_passes, reason = 0, "their store kept failing"
    while not table.is_complete and poor_passes < MAX_POOR_PASSES:
        before = len(table.state.committed)
        # After a poor pass blocks are smaller, so that what fails delays few neighbours.
        block_rows = max(1, session.config.compute.embed.block_rows // 8**poor_passes)
        pieces = split_ranges(table.state.missing(), block_rows)
        lost = None
        try:
            _one_pass(session, table, plan, placement, pieces, progress)
        except WorkersLostError as error:
            lost = error
            session.screen.say(f"note: {error}; starting again with what is missing")
        facts["passes"] = facts.get("passes", 0) + 1
        # Lost workers are no reason to stop while something is settled between the losses.
        if lost is None or len(table.state.committed) == before:
            poor_passes += 1
            reason = f"worker processes kept dying ({lost})" if lost else reason
    if not table.is_complete:
        left = table.state.rows - len(table.state.committed)
        raise InputError(
            f"{left:,} images could not be embedded because {reason}; "
            f"{len(table.state.committed):,} are committed: run the same command again"
        )


def _one_pass(
    session: Session,
    table: CommittedTable,
    plan: EmbedPlan,
    placement: Placement,
    pieces: list[tuple[int, int]],
    progress: StageProgress,
) -> None:
    decoded = run_tasks(fetch_and_decode, len(pieces), plan=plan, pieces=pieces)
    proposals = map_batches(
        decoded,
        EncoderActor,
        fn_constructor_kwargs={
            "plan": plan,
            "device": placement.device,
            "batch_size": placement.batch_size,
            "threads": session.config.compute.embed.torch_threads,
        },
        batch_size=session.config.compute.embed.block_rows,
        num_cpus=placement.cpus_per_actor,
        num_gpus=placement.gpus_per_actor or None,
        compute=ray.data.ActorPoolStrategy(
            min_size=placement.min_actors, max_size=placement.max_actors
        ),
        max_restarts=MAX_RETRIES,
        max_task_retries=MAX_RETRIES,
    )
    commit_stream(
        table,
        proposals,
        every_seconds=session.config.compute.commit_seconds,
        on_commit=lambda _: progress.reach(
            len(table.state.committed), words=f"{table.count('quarantine'):,} rejected"
        ),
    )


def place(config: EmbedComputeConfig, resources: dict[str, float]) -> Placement:
    """Where encoders run on a cluster with these Ray resources.

    Raises:
        ConfigError: cuda is asked for and the cluster has no GPU and cannot be expected to get one.
    """
    gpus, cpus = resources.get("GPU", 0), resources.get("CPU", 1)
    device = config.device
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    gpus_per_actor = config.gpus_per_actor or (1.0 if device == "cuda" else 0.0)
    if device == "cuda" and not gpus and config.actors.max is None:
        raise ConfigError(
            "compute.embed.device: cuda, but the Ray cluster has no GPU; set "
            "compute.embed.device=cpu, or compute.embed.actors.max when GPU nodes start on demand"
        )
    fitting = int(gpus / gpus_per_actor) if gpus_per_actor else 1
    max_actors = config.actors.max or max(config.actors.min, fitting, 1)
    return Placement(
        device=device,
        gpus_per_actor=gpus_per_actor,
        # Actors must leave a CPU for the decoding tasks, or nothing ever moves.
        cpus_per_actor=1.0 if cpus > max_actors else 0.0,
        min_actors=config.actors.min,
        max_actors=max_actors,
        batch_size=config.batch_size or (128 if device == "cuda" else 16),
    )


def _plan(session: Session, spec: EncoderSpec, table: CommittedTable, *, run_id: str) -> EmbedPlan:
    config = session.config
    return EmbedPlan(
        run_uri=session.run.uri,
        catalog=session.run.catalog,
        run_id=run_id,
        spec=spec,
        storage=config.encoder.storage,
        limits=Limits(max_pixels=config.images.max_pixels, formats=config.images.formats),
        guard=GuardLimits(config.images.max_decode_seconds, config.images.max_decode_mb),
        read=ReadPlan(
            threads=config.compute.embed.fetch_threads,
            max_bytes=config.images.max_bytes,
            root=folder_root(config.catalog),
            known_good=_known_good(table),
        ),
        sample_share=min(1.0, config.sample.rows / table.state.rows),
        seed=config.seed,
    )


def _known_good(table: CommittedTable) -> str | None:
    """The URI of an image that has been embedded, if any has."""
    files = table.files("embeddings")
    if not files:
        return None
    found: str = read_parquet(table.uri(files[0]), ["uri"])["uri"][0].as_py()
    return found


def _report_counts(
    session: Session,
    table: CommittedTable,
    progress: StageProgress,
    facts: dict[str, Any],
    done_before: int,
) -> None:
    embedded, rejected = table.count("embeddings"), table.count("quarantine")
    new = len(table.state.committed) - done_before
    codes: Counter[str] = Counter()
    for part in table.read("quarantine", ["code"]):
        codes.update(part["code"].to_pylist())
    if new == 0:
        progress.note(f"{embedded:,} embedded, {rejected:,} rejected before: nothing to do")
    else:
        resumed = f", {done_before:,} were committed before" if done_before else ""
        progress.note(
            f"{embedded:,} embedded, {rejected:,} rejected, {progress.rate:,.0f} images/s{resumed}"
        )
    facts.update(
        rows=table.state.rows,
        embedded=embedded,
        quarantined=rejected,
        quarantined_by_code=dict(sorted(codes.items())),
        newly_done=new,
        images_per_second=round(progress.rate, 1),
        sampled=table.count("sample"),
        conserved=embedded + rejected == table.state.rows and table.is_complete,
    )


def check_rejects(session: Session) -> None:
    """Fail the job when too many images were quarantined; the last step, so that a report is there.

    Raises:
        TooManyRejectsError: above images.max_reject_fraction.
    """
    facts = session.record["stages"]["embed_images"]
    rejected, rows = facts["quarantined"], facts["rows"]
    allowed = session.config.images.max_reject_fraction
    if rejected == rows or rejected > allowed * rows:
        codes = facts["quarantined_by_code"]
        reasons = ", ".join(f"{code} {count:,}" for code, count in codes.items())
        raise TooManyRejectsError(
            f"{rejected:,} of {rows:,} images are unusable ({reasons}); {allowed:.1%} are allowed: "
            "see quarantine/ for each; then raise images.max_reject_fraction, or mend the source "
            "and start again with a new run_uri"
        )
