"""Download the encoders that a configuration names, for clusters without internet."""

from __future__ import annotations

import json
from pathlib import Path

from clusterlib import storage
from clusterlib.encoders.select import fetch_model
from clusterlib.errors import ClusterlibError, ConfigError
from clusterlib.stages.session import Session

INDEX = "models.json"  # model string asked for -> the one to use, its path relative to the folder


def fetch_models(session: Session, *, folder: str = "") -> None:
    """Fetch `encoder.model` and `compare.models`, and say which settings use them from there.

    What is there already is kept, without asking the network, also in a copy of the folder; what
    was cut off goes on with the files that are missing.

    Args:
        session: The configured run.
        folder: A local folder; default: models/ in the run.

    Raises:
        ConfigError: the folder is not local, or a model string is not known.
        InputError: a model cannot be downloaded; the others are fetched all the same.
    """
    place = storage.absolute(folder or storage.join(session.run.uri, "models"))
    if not storage.is_local(place):
        raise ConfigError(f"folder: {place} is no local folder; give folder=/path/to/models")
    wanted, compared = session.config.encoder.model, session.config.compare.models
    index = storage.join(place, INDEX)
    known = _known(storage.read_json(index) or {}, place)
    failures: list[ClusterlibError] = []
    models = list(dict.fromkeys([wanted, *compared]))
    for model in models:
        if model in known:
            session.screen.say(f"{model}: already in {place}")
            continue
        try:
            Path(place).mkdir(parents=True, exist_ok=True)
            known[model] = fetch_model(model, Path(place))
        except ClusterlibError as error:
            session.screen.say(f"{model}: failed: {error}")
            failures.append(error)
            continue
        if not Path(known[model].rpartition(":")[2]).is_relative_to(place):
            session.screen.say(f"{model}: nothing to download, it is installed or local")
            del known[model]
        else:
            storage.write_json(index, {m: _relative(used, place) for m, used in known.items()})
            session.screen.say(f"{model}: in {place}")
    session.screen.say("use them with")
    session.screen.say(f"  encoder.model={known.get(wanted, wanted)}")
    if compared:
        used = [known.get(model, model) for model in compared]
        session.screen.say(f"  'compare.models={json.dumps(used)}'")
    session.record.setdefault("stages", {})["fetch_models"] = {"folder": place, "models": known}
    if failures:
        raise type(failures[0])(
            f"{len(failures)} of {len(models)} models could not be fetched, the first because: "
            f"{failures[0]}"
        )


def _known(index: dict[str, str], place: str) -> dict[str, str]:
    """What the index says is there, as far as it is; the folder may have been copied."""
    found = {}
    for model, used in index.items():
        prefix, _, path = used.rpartition(":")
        if Path(place, path).exists():
            found[model] = f"{prefix}:{storage.join(place, path)}"
    return found


def _relative(used: str, place: str) -> str:
    prefix, _, path = used.rpartition(":")
    return f"{prefix}:{Path(path).relative_to(place)}"
