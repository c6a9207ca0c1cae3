"""Stage 2: fetch, decode and embed every image; each ends as an embedding or a quarantine row.

CPU tasks fetch and decode a block of catalogue rows each; encoder actors embed the block, write it
as Parquet and propose it; the driver commits proposals as they stream in. No pixels reach the
driver.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray

from clusterlib.config import Config
from clusterlib.encoders.select import describe_encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import (
    InputError,
    TooManyRejectsError,
    WorkersLostError,
)
from clusterlib.images.decode import HEIF, Limits, register_heif
from clusterlib.images.guard import GuardLimits
from clusterlib.run import fingerprint
from clusterlib.stages.build_catalog import folder_root
from clusterlib.stages.embedding.balance import Balance
from clusterlib.stages.embedding.fetching import ReadPlan
from clusterlib.stages.embedding.placement import Placement, place
from clusterlib.stages.embedding.probe import Runtime, probe_encoder
from clusterlib.stages.embedding.source_reads import SourceReads
from clusterlib.stages.embedding.workers import EmbedPlan, EncoderActor, fetch_and_decode
from clusterlib.stages.progress import StageProgress
from clusterlib.stages.session import Session, run_id
from clusterlib.stages.streaming import (
    MAX_RETRIES,
    commit_stream,
    map_batches,
    run_once,
    run_tasks,
    split_ranges,
)
from clusterlib.stages.upkeep.compact_table import compact_table
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet
from clusterlib.tables.protocol import Change

DATASETS = ("embeddings", "quarantine", "sample")
MAX_POOR_PASSES = 3
# An actor computes one block while it writes the one before.
BLOCKS_IN_HAND = 2
# Of the cluster's memory, what the encoders on CPUs may take.
MEMORY_SHARE = 0.5


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
    config = session.config.compute.embed
    resources = ray.cluster_resources()
    placement = place(config, resources)
    if placement.device == "cpu" and session.config.encoder.precision == "float16":
        session.screen.say("note: float16 is slow on a CPU; encoder.precision=bfloat16 is not")
    runtime = Runtime(placement.device, placement.threads, config.runtime)
    probe = run_once(
        probe_encoder,
        options=placement.options(),
        spec=spec,
        runtime=runtime,
        batch_size=config.batch_size,
    )
    if placement.device == "cpu" and config.actors.max is None and probe.memory_mb:
        room_mb = MEMORY_SHARE * resources.get("memory", float("inf")) / 2**20
        placement = placement.at_most(int(min(room_mb / probe.memory_mb, placement.max_actors)))
    left = table.state.rows - len(table.state.committed)
    placement = placement.at_most(math.ceil(left / config.block_rows))
    facts["placement"], facts["probe"] = str(placement), asdict(probe)
    progress.note(str(placement))
    session.screen.say(
        f"one encoder alone: {probe.images_per_second:,.0f} images/s in batches of "
        f"{probe.batch_size}, {probe.dim} dimensions, {probe.memory_mb:,.0f} MiB"
    )
    balance = Balance(
        device=placement.device,
        cpus_per_encoder=max(
            0.0, resources.get("CPU", 1) / placement.max_actors - placement.cpus_per_actor
        ),
    )
    reads = SourceReads()
    reads.merge(session.record.get("reads") or ())
    progress.begin()
    plan = _plan(session, spec, table, run_id=run_id)
    workers = _Workers(
        session, table, plan, placement, runtime, probe.batch_size, progress, balance, reads
    )
    poor_passes, reason = 0, "their store kept failing"
    while not table.is_complete and poor_passes < MAX_POOR_PASSES:
        before = len(table.state.committed)
        # After a poor pass blocks are smaller, so that what fails delays few neighbours.
        block_rows = max(1, session.config.compute.embed.block_rows // 8**poor_passes)
        pieces = split_ranges(table.state.missing(), block_rows)
        lost = None
        try:
            workers.one_pass(pieces)
        except WorkersLostError as error:
            lost = error
            session.screen.say(f"note: {error}; starting again with what is missing")
        facts["passes"] = facts.get("passes", 0) + 1
        # Lost workers are no reason to stop while something is settled between the losses.
        if lost is None or len(table.state.committed) == before:
            poor_passes += 1
            reason = f"worker processes kept dying ({lost})" if lost else reason
    facts["rates"], facts["bottleneck"] = balance.rates(), balance.bottleneck
    facts["bytes_per_row_between_stages"] = round(balance.pixel_bytes / max(1, balance.images))
    if not table.is_complete:
        left = table.state.rows - len(table.state.committed)
        raise InputError(
            f"{left:,} images could not be embedded because {reason}; "
            f"{len(table.state.committed):,} are committed: run the same command again"
        )


@dataclass(frozen=True)
class _Workers:
    """The tasks and actors of this stage, and who hears of what they have done."""

    session: Session
    table: CommittedTable
    plan: EmbedPlan
    placement: Placement
    runtime: Runtime
    batch_size: int
    progress: StageProgress
    balance: Balance
    reads: SourceReads

    def one_pass(self, pieces: list[tuple[int, int]]) -> None:
        """Embed and commit the rows of `pieces`, but those whose store fails."""
        try:
            commit_stream(
                self.table,
                self._proposals(pieces),
                every_seconds=self.session.config.compute.commit_seconds,
                on_commit=self._on_commit,
                on_batch=self._on_batch,
            )
        finally:
            self.session.record["reads"] = self.reads.rows()

    def _proposals(self, pieces: list[tuple[int, int]]) -> Any:
        config, placement = self.session.config.compute.embed, self.placement
        decoded = run_tasks(
            fetch_and_decode,
            len(pieces),
            num_cpus=placement.cpus_per_task,
            plan=self.plan,
            pieces=pieces,
        )
        return map_batches(
            decoded,
            EncoderActor,
            fn_constructor_kwargs={
                "plan": self.plan,
                "runtime": self.runtime,
                "batch_size": self.batch_size,
                "compiled": config.compile,
            },
            batch_size=config.block_rows,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                min_size=placement.min_actors,
                max_size=placement.max_actors,
                initial_size=placement.initial_actors,
                max_concurrent_calls_per_actor=BLOCKS_IN_HAND,
                enable_true_multi_threading=True,
            ),
            max_restarts=MAX_RETRIES,
            max_task_retries=MAX_RETRIES,
            **placement.options(),
        )

    def _on_batch(self, batch: dict[str, Any]) -> None:
        blocks = [json.loads(text) for text in batch["timings"]]
        self.balance.add(blocks)
        for block in blocks:
            self.reads.merge(block["reads"])

    def _on_commit(self, _: Change) -> None:
        if not self.balance.told:
            self.session.screen.say(str(self.balance))
            self.balance.told = True
        rejected = self.table.count("quarantine")
        self.progress.reach(len(self.table.state.committed), words=f"{rejected:,} rejected")


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
        steady_images_per_second=progress.steady_rate and round(progress.steady_rate, 1),
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
