"""Download the encoders that a configuration names, for clusters without internet."""

from __future__ import annotations

from pathlib import Path

from clusterlib import storage
from clusterlib.encoders.select import fetch_model
from clusterlib.errors import ConfigError
from clusterlib.stages.session import Session


def fetch_models(session: Session, *, folder: str = "") -> None:
    """Fetch `encoder.model` into `folder` and say which setting uses it from there.

    What is there already is kept, and what was cut off goes on.

    Args:
        session: The configured run.
        folder: A local folder; default: models/ in the run.

    Raises:
        ConfigError: the folder is not local, or the model string is not known.
        InputError: the model cannot be downloaded.
    """
    target = storage.absolute(folder or storage.join(session.run.uri, "models"))
    if not storage.is_local(target):
        raise ConfigError(f"folder: {target} is no local folder; give folder=/path/to/models")
    Path(target).mkdir(parents=True, exist_ok=True)
    model = session.config.encoder.model
    used = fetch_model(model, Path(target))
    if used == model:
        session.screen.say(f"{model}: nothing to download")
    else:
        session.screen.say(f"{model} is in {target}; use it with\n  encoder.model={used}")
