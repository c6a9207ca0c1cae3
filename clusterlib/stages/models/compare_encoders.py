"""Try several encoders on one sample of the catalogue before embedding all of it.

Each encoder gets a small run of its own below `compare/`, whose catalogue is the sample, and goes
through the same stages as the real run: so a restart embeds nothing twice, and images that cannot
be decoded are quarantined as they will be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.catalog.frozen import freeze, read_info, take_rows
from clusterlib.catalog.source import SourceBatch
from clusterlib.clustering.agreement import Agreement, agreement
from clusterlib.clustering.assign import assign
from clusterlib.clustering.picks import lowest_hashes
from clusterlib.config import Config
from clusterlib.encoders.select import describe_encoder
from clusterlib.errors import ClusterlibError, ConfigError
from clusterlib.report.content import Content, Rejects
from clusterlib.report.encoders import KRow, Trial, encoder_pages, table_text
from clusterlib.run import Run, fingerprint
from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.clusters.fit_clusters import fit_clusters, read_record
from clusterlib.stages.clusters.model_files import read_model
from clusterlib.stages.embedding.embed_images import embed_images
from clusterlib.stages.reporting.gather import run_facts
from clusterlib.stages.session import Session
from clusterlib.tables.parquet import read_parquet

_BLOCKS = 16  # at least so many commits a trial, to take a rate from
_FROZEN = ("image_id", "uri", "size_bytes", "etag", "group", "label")


@dataclass(frozen=True)
class _Sample:
    """The rows tried, as catalogue columns, and what they were chosen from."""

    rows: pa.Table
    facts: dict[str, Any]


def compare_encoders(session: Session) -> None:
    """Write `compare/index.html` and `compare/comparison.json`, and print the table.

    Raises:
        ConfigError: compare.models is empty.
        InputError: an encoder failed; the others are compared, and the page names the reason.
    """
    models = tuple(dict.fromkeys(session.config.compare.models))
    if not models:
        raise ConfigError(
            "compare.models: name the encoders to try, for example "
            "compare.models='[efficientnet-lite0, torchvision:resnet50]'"
        )
    if read_info(session.run.catalog) is None:
        build_catalog(session)
    sample = _sample(session)
    session.start_ray()
    trials, failures = [], []
    for number, model in enumerate(models, start=1):
        session.screen.say(f"encoder {number} of {len(models)}: {model}")
        try:
            trials.append(_try_encoder(session, sample, model))
        except ClusterlibError as error:
            session.screen.say(f"failed: {error}")
            trials.append(Trial(model, problem=str(error)))
            failures.append(error)
    _write(session, sample, trials)
    if failures:
        # Of the first one's kind, so that the exit code says what to mend.
        raise type(failures[0])(
            f"{len(failures)} of {len(models)} encoders failed, the first because: {failures[0]}"
        )


def _sample(session: Session) -> _Sample:
    catalog = session.catalog()
    config = session.config
    ids = lowest_hashes(catalog.rows, config.compare.rows, seed=config.seed)
    rows = take_rows(session.run.catalog, ids, _FROZEN)
    facts = {"catalog.digest": catalog.digest, "rows": len(ids), "seed": config.seed}
    return _Sample(rows, facts)


def _try_encoder(session: Session, sample: _Sample, model: str) -> Trial:
    trial = _trial_session(session, sample, model)
    if read_info(trial.run.catalog) is None:
        columns = {name: sample.rows[name].combine_chunks() for name in _FROZEN}
        freeze(
            [SourceBatch(columns=columns)],
            folder=trial.run.catalog,
            settings=trial.catalog_settings(),
            source=session.run.catalog,
        )
    embed_images(trial)
    stages = trial.record["stages"]
    embedded = stages["embed_images"]
    if embedded["newly_done"]:
        rate = embedded["steady_images_per_second"] or embedded["images_per_second"]
        _remember(trial, images_per_second=rate, embed_seconds=embedded["seconds"])
    table, run_id = trial.embeddings()
    fit = trial.fit(run_id)
    is_new = read_record(fit) is None
    fit_clusters(trial)
    if is_new:
        _remember(trial, cluster_seconds=stages["fit_clusters"]["seconds"])
    record = read_record(fit) or {}
    sweep = read_parquet(storage.join(fit.model, "sweep.parquet")).to_pylist()
    chosen: dict[str, Any] = next((row for row in sweep if row["k"] == record["k"]), {})
    score = _agreement(trial, fit.model)
    measured = _measured(trial)
    return Trial(
        model=model,
        dim=record["dim"],
        rows=embedded["embedded"],
        rejected=embedded["quarantined"],
        k=record["k"],
        reason=record["reason"],
        silhouette=chosen.get("silhouette"),
        stability=chosen.get("stability"),
        nmi=score.nmi if score else None,
        ari=score.ari if score else None,
        ami=score.ami if score else None,
        images_per_second=measured.get("images_per_second"),
        embed_seconds=measured.get("embed_seconds"),
        cluster_seconds=measured.get("cluster_seconds"),
        fingerprint=run_id,
        sweep=[KRow(row["k"], row["silhouette"], row["stability"]) for row in sweep],
    )


def _trial_session(session: Session, sample: _Sample, model: str) -> Session:
    """A session on the small run of `model`, named by all that decides its embeddings."""
    config = session.config
    encoder = config.encoder
    if model != encoder.model:
        encoder = encoder.model_copy(update={"model": model, "pooling": "auto"})
    spec = describe_encoder(encoder)
    settings = sample.facts | {
        "images": config.result_tree()["images"],
        "storage": encoder.storage,
        "spec": spec.settings(),
    }
    slug = re.sub(r"[^A-Za-z0-9]+", "-", model.rstrip("/").rpartition("/")[2]).strip("-")[:40]
    uri = storage.join(session.run.compare, f"{slug}-{fingerprint(settings)}")
    rows = sample.rows.num_rows
    embed = config.compute.embed
    embed = embed.model_copy(
        update={"block_rows": max(1, min(embed.block_rows, -(-rows // _BLOCKS)))}
    )
    update = {
        "run_uri": uri,
        "encoder": encoder,
        # Every row is a training row.
        "sample": config.sample.model_copy(update={"rows": max(rows, config.sample.rows)}),
        "compute": config.compute.model_copy(update={"embed": embed, "commit_seconds": 0.2}),
    }
    return Session(_updated(config, update), Run(uri), session.screen)


def _updated(config: Config, update: dict[str, Any]) -> Config:
    changed = config.model_copy(update=update)
    # A placeholder would come back in place of what was set here.
    kept = {p: t for p, t in config._placeholders.items() if p[0] not in update}
    changed._placeholders = kept
    return changed


def _agreement(trial: Session, model_uri: str) -> Agreement | None:
    """Of the clusters with the true labels of the sample; None without labels."""
    catalog = trial.catalog()
    if not catalog.has_labels:
        return None
    table, _ = trial.embeddings()
    rows = pa.concat_tables(list(table.read("sample", ["row_id", "embedding"]))).sort_by("row_id")
    vectors = rows["embedding"].combine_chunks()
    x_ND = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    cluster_ids_N = assign(x_ND.astype(np.float32, copy=False), read_model(model_uri)).cluster_ids_N
    names = take_rows(trial.run.catalog, rows["row_id"].to_numpy(), ["label"])["label"]
    used_N = (cluster_ids_N >= 0) & ~names.is_null().to_numpy()
    if not used_N.any():
        return None
    _, labels_N = np.unique(
        names.filter(pa.array(used_N)).to_numpy().astype(str), return_inverse=True
    )
    ids_N = cluster_ids_N[used_N].astype(np.int64)
    width = int(labels_N.max()) + 1
    size = (int(ids_N.max()) + 1) * width
    counts = np.bincount(ids_N * width + labels_N, minlength=size)
    return agreement(counts.reshape(-1, width).astype(np.int64))


def _remember(trial: Session, **numbers: float) -> None:
    """Keep what can be measured only once: a restart finds the work done."""
    storage.write_json(storage.join(trial.run.uri, "measured.json"), _measured(trial) | numbers)


def _measured(trial: Session) -> dict[str, float]:
    return storage.read_json(storage.join(trial.run.uri, "measured.json")) or {}


def _write(session: Session, sample: _Sample, trials: list[Trial]) -> None:
    content = Content(
        **run_facts(session) | {"title": f"{session.config.report.title}: encoders compared"},
        run_id="–",
        fit_id="–",
        rows=session.catalog().rows,
        embedded=0,
        k=0,
        reason="",
        explained=(),
        sweep=(),
        clusters=(),
        rejects=Rejects({}, {}, {}, (), 0),
    )
    folder = session.run.compare
    for path, text in encoder_pages(content, trials, asked=sample.rows.num_rows):
        storage.write_bytes(storage.join(folder, path), text.encode())
    numbers = sample.facts | {"trials": [trial.numbers() for trial in trials]}
    storage.write_json(storage.join(folder, "comparison.json"), numbers)
    session.screen.say("")
    for line in table_text(trials):
        session.screen.say(line)
    session.screen.say(f"comparison {storage.join(folder, 'index.html')}")
