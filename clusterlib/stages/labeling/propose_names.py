"""Names that the encoder's text tower proposes for clusters, for people to judge."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np

from clusterlib import storage
from clusterlib.clustering.assign import assign
from clusterlib.encoders.select import describe_encoder
from clusterlib.errors import ConfigError, InputError, StaleArtifactError
from clusterlib.labels.proposals import name_vectors, phrases, propose, read_vocabulary
from clusterlib.run import Fit
from clusterlib.stages.clusters.cluster_rows import proposals_uri
from clusterlib.stages.clusters.model_files import read_model
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks
from clusterlib.tables.committed import CommittedTable

PROPOSALS = 3  # for each cluster
NAMES_PER_TASK = 500


def check_names(session: Session) -> None:
    """Refuse, before anything starts, a vocabulary that cannot be read or compared.

    Raises:
        ConfigError: the encoder has no text tower in the space of its pictures.
        InputError: the vocabulary or the model cannot be read.
    """
    if session.config.manifests.vocabulary is not None:
        _vocabulary(session)
        from clusterlib.encoders.text import check_text_tower

        spec = describe_encoder(session.config.encoder)
        check_text_tower(spec.model, pooling=spec.pooling)


def propose_names(session: Session, *, required: bool = False) -> None:
    """Write `proposals.json` of the configured fit when there is a vocabulary.

    Raises:
        ConfigError: the encoder has no text tower in the space of its pictures, or there is no
            vocabulary though one is `required`.
        InputError: the assignments are not complete, or the vocabulary cannot be read.
        StaleArtifactError: the model is another one than the images were embedded with.
    """
    if session.config.manifests.vocabulary is None:
        if required:
            raise ConfigError("manifests.vocabulary: required; a text file with one name a line")
        return
    # It brings torch: no job without a vocabulary should carry that.
    from clusterlib.encoders.text import check_text_tower

    with session.stage("propose_names") as (progress, facts):
        embeddings, run_id = session.embeddings()
        fit = session.fit(run_id)
        session.assignments(fit, embeddings.state.rows)
        names, digest = _vocabulary(session)
        prompts = session.config.manifests.prompts
        model, pooling, revision = _embedded_with(session)
        check_text_tower(model, pooling=pooling)
        settings = {
            "model": model,
            "revision": revision,
            "vocabulary": digest,
            "prompts": list(prompts),
        }
        record = storage.read_json(proposals_uri(fit))
        if record is None or record["settings"] != settings:
            session.start_ray()
            found = _propose(session, fit, embeddings, names, model=model, pooling=pooling)
            record = {"settings": settings, "clusters": found}
            storage.write_json(proposals_uri(fit), record)
            progress.note(f"names for {len(found):,} clusters from {len(names):,}")
        else:
            progress.note(f"names for {len(record['clusters']):,} clusters, already proposed")
        facts.update(names=len(names))


def _vocabulary(session: Session) -> tuple[tuple[str, ...], str]:
    """The names, and a digest of their file."""
    path = session.config.manifests.vocabulary
    assert path is not None
    try:
        data = storage.read_bytes(storage.absolute(path))
    except FileNotFoundError:
        raise InputError(f"manifests.vocabulary: {path}: no such file") from None
    except (OSError, storage.NotRegularFileError) as error:
        raise InputError(f"manifests.vocabulary: {path} cannot be read: {error}") from None
    return read_vocabulary(data, where=path), hashlib.sha256(data).hexdigest()[:16]


def _embedded_with(session: Session) -> tuple[str, str, str]:
    """Model, pooling and revision that the images were embedded with.

    Raises:
        StaleArtifactError: the model has changed since.
    """
    _, header = session.committed_embeddings()
    spec = describe_encoder(session.config.encoder)
    if spec.revision != header["encoder.revision"]:
        raise StaleArtifactError(
            f"encoder.model: {spec.model} is now {spec.revision}, but images were embedded with "
            f"{header['encoder.revision']}; name that revision or use a new run_uri"
        )
    return spec.model, str(header["encoder.used_pooling"]), spec.revision


def _propose(
    session: Session,
    fit: Fit,
    embeddings: CommittedTable,
    names: tuple[str, ...],
    *,
    model: str,
    pooling: str,
) -> dict[str, list[dict[str, Any]]]:
    prompts = session.config.manifests.prompts
    pieces = [names[i : i + NAMES_PER_TASK] for i in range(0, len(names), NAMES_PER_TASK)]
    done = run_tasks(
        _encode_piece, len(pieces), pieces=pieces, prompts=prompts, model=model, pooling=pooling
    )
    vectors: dict[int, np.ndarray] = {}
    for batch in batches(done):
        for number, data in zip(batch["id"], batch["vectors"], strict=True):
            vectors[int(number)] = np.frombuffer(data, np.float32)
    names_TD = np.concatenate([vectors[n].reshape(len(p), -1) for n, p in enumerate(pieces)])
    sums_CD, counts_C = _sums(fit, embeddings)
    found = propose(
        sums_CD[:-1],
        counts_C[:-1],
        sums_CD[-1],
        int(counts_C[-1]),
        names=names,
        names_TD=names_TD,
        count=PROPOSALS,
    )
    return {
        str(cluster): [asdict(proposal) for proposal in proposals]
        for cluster, proposals in enumerate(found)
        if proposals
    }


def _encode_piece(
    batch: dict[str, np.ndarray],
    *,
    pieces: list[tuple[str, ...]],
    prompts: tuple[str, ...],
    model: str,
    pooling: str,
) -> dict[str, list[Any]]:
    from clusterlib.encoders.text import encode_texts

    number = int(batch["id"][0])
    texts_XD = encode_texts(model, phrases(pieces[number], prompts), pooling=pooling)
    return {"id": [number], "vectors": [name_vectors(texts_XD, prompts=len(prompts)).tobytes()]}


def _sums(fit: Fit, embeddings: CommittedTable) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts of the sample's unit vectors by cluster; those of noise come last."""
    model = read_model(fit.model)
    clusters = len(model.centroids_KP)
    sums_CD, counts_C = np.zeros(0), np.zeros(clusters + 1, dtype=np.int64)
    for table in embeddings.read("sample", ["row_id", "embedding"]):
        vectors = table["embedding"].combine_chunks()
        flat = vectors.flatten().to_numpy(zero_copy_only=False)
        x_ND = flat.reshape(table.num_rows, vectors.type.list_size)
        if not len(sums_CD):
            sums_CD = np.zeros((clusters + 1, x_ND.shape[1]))
        ids_N = assign(x_ND, model).cluster_ids_N
        np.add.at(sums_CD, ids_N, x_ND)  # noise, -1, is the last row
        counts_C += np.bincount(ids_N % (clusters + 1), minlength=clusters + 1)
    return sums_CD, counts_C
