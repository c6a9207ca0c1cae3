"""Stage 1: list the images once and freeze the list."""

from __future__ import annotations

from collections.abc import Iterator

from clusterlib import storage
from clusterlib.catalog import digits, folder, frozen, table
from clusterlib.catalog.source import SourceBatch
from clusterlib.config import CatalogConfig
from clusterlib.stages.session import Session


def build_catalog(session: Session) -> None:
    """Write `catalog/`, or keep the one that is there.

    Raises:
        InputError: the source is missing, empty or refused, or image ids repeat.
        StaleArtifactError: the run holds the catalogue of another source.
    """
    with session.stage("build_catalog") as (progress, facts):
        if frozen.read_info(session.run.catalog) is not None:
            info = session.catalog()
            progress.note(f"{info.rows:,} images, already listed")
        else:
            info = frozen.freeze(
                _read_source(session.config.catalog),
                folder=session.run.catalog,
                settings=session.catalog_settings(),
                source=session.config.catalog.source,
            )
            skipped = f", {info.skipped:,} files of other kinds left out" if info.skipped else ""
            progress.note(f"{info.rows:,} images{skipped}")
        facts.update(rows=info.rows, skipped_files=info.skipped, digest=info.digest)


def folder_root(config: CatalogConfig) -> str | None:
    """The local folder whose listing is the catalogue; None for tables and for stores."""
    source = config.source
    is_table = source.startswith(digits.PREFIX) or source.lower().endswith(table.SUFFIXES)
    return None if is_table or not storage.is_local(source) else storage.absolute(source)


def _read_source(config: CatalogConfig) -> Iterator[SourceBatch]:
    if config.source.startswith(digits.PREFIX):
        place = storage.absolute(config.source.removeprefix(digits.PREFIX))
        config = config.model_copy(update={"source": digits.write_digits(place)})
    if config.source.lower().endswith(table.SUFFIXES):
        return table.read_table(config)
    return folder.read_folder(config)
