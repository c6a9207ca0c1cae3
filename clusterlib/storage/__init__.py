"""The only module that opens URIs: join, list, read, create, over fsspec.

A URI is a local path or anything fsspec knows (`s3://`, `gs://`, `memory://`, ...). Credentials
come from each store's own default chain and never pass through here. Every call is retried as
`retries` says; the client libraries' own retries are switched off where they can be, so that one
place decides.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from clusterlib.errors import InputError, StoreRefusedError
from clusterlib.storage.connection import (
    BadUriError,
    ChangedError,
    NotRegularFileError,
    RemoteFile,
    Store,
    TooManyBytesError,
    absolute,
    is_local,
)
from clusterlib.storage.retries import ARTIFACT, IMAGE, Patience, describe, is_unknown_host

__all__ = [
    "ARTIFACT",
    "IMAGE",
    "BadUriError",
    "ChangedError",
    "FileInfo",
    "NotRegularFileError",
    "Patience",
    "TooManyBytesError",
    "absolute",
    "can_create",
    "create_bytes",
    "delete",
    "delete_leftovers",
    "exists",
    "is_local",
    "is_unknown_host",
    "join",
    "list_files",
    "now",
    "open_input",
    "read_bytes",
    "read_json",
    "replace_absent",
    "write_bytes",
    "write_json",
]

_BUFFER_BYTES = 2**16
_TEMPORARY = (".writing-", ".probe-", ".clock-")


@dataclass(frozen=True)
class FileInfo:
    """One listed file."""

    uri: str
    size_bytes: int
    etag: str
    modified: float  # Unix time on the store's clock; 0 where the store tells none


def join(uri: str, *parts: str) -> str:
    """`uri` and `parts` with single slashes between them."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Whether a file or folder is at `uri`."""
    store = Store(uri)
    return bool(store.call(lambda fs, path: fs.exists(path)))


def list_files(uri: str, *, hidden: bool = False) -> Iterator[FileInfo]:
    """Every file under `uri`, sorted by name; hidden ones only if asked for.

    Raises:
        InputError: there is no such folder or bucket, or access to it is refused.
    """
    store = Store(uri)
    protocol = "" if is_local(uri) else uri.split("://", 1)[0] + "://"
    try:
        if is_local(uri) and not os.path.isdir(store.path):
            raise InputError(f"{uri}: no such folder; check catalog.source")
        found = store.call(lambda fs, path: fs.find(path, detail=True))
    except FileNotFoundError:
        raise InputError(f"{uri}: no such bucket or prefix; check catalog.source") from None
    except StoreRefusedError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # as S3 says of a missing bucket
            raise InputError(f"{uri}: no such bucket; check catalog.source") from None
        raise
    except PermissionError as error:
        raise InputError(f"{uri}: access refused ({describe(error)})") from None
    root = store.path.rstrip("/") + "/"
    for name in sorted(found):
        relative = name.removeprefix(root)
        if not hidden and any(part.startswith(".") for part in relative.split("/")):
            continue
        info = found[name]
        etag = str(info.get("ETag") or info.get("etag") or "").strip('"')
        size = int(info.get("size") or 0)
        yield FileInfo(f"{protocol}{name}", size, etag, _modified(info))


def now(uri: str) -> float:
    """Unix time on the clock of the store that holds folder `uri`, which may differ from ours."""
    probe = join(uri, f".clock-{uuid.uuid4().hex}")
    write_bytes(probe, b"")
    try:
        return float(Store(probe).call(lambda fs, path: fs.modified(path)).timestamp())
    finally:
        delete(probe)


def read_json(uri: str) -> dict[str, Any] | None:
    """A JSON object, or None when there is no such file."""
    try:
        found: dict[str, Any] = json.loads(read_bytes(uri))
    except FileNotFoundError:
        return None
    return found


def write_json(uri: str, body: Mapping[str, Any], *, patience: Patience = ARTIFACT) -> None:
    """Write a JSON object for people and programs."""
    write_bytes(uri, (json.dumps(dict(body), indent=2) + "\n").encode(), patience=patience)


def delete(uri: str) -> None:
    """Delete a file or a folder with all that is in it; nothing happens when there is none."""
    with contextlib.suppress(FileNotFoundError):
        Store(uri).call(lambda fs, path: fs.rm(path, recursive=True))


def delete_leftovers(uri: str, *, older_than_s: float) -> list[str]:
    """Delete what killed processes left of this module's own temporary files; returns their URIs.

    Args:
        uri: A folder; those in it are searched too.
        older_than_s: Least age by the store's clock.
    """
    limit = now(uri) - older_than_s
    found = [
        info.uri
        for info in list_files(uri, hidden=True)
        if info.modified < limit and info.uri.rsplit("/", 1)[-1].startswith(_TEMPORARY)
    ]
    for one in found:
        delete(one)
    return found


def read_bytes(
    uri: str,
    *,
    max_bytes: int | None = None,
    size_bytes: int | None = None,
    patience: Patience = ARTIFACT,
    on_retry: Callable[[], None] = lambda: None,
) -> bytes:
    """The content of one file, with retries.

    Args:
        uri: What to read.
        max_bytes: Refuse larger files before reading them.
        size_bytes: The size, when a listing has told it; saves a request.
        patience: How long to try.
        on_retry: Called before each further try.

    Raises:
        FileNotFoundError, PermissionError: as the store says.
        TooManyBytesError, NotRegularFileError: refused before reading.
        ChangedError: its size is not the one that the store says it is.
        BadUriError: nothing can ever be at such a URI.
        TransientStorageError: the store failed again and again.
        StoreRefusedError: the store refuses everything.
    """
    store = Store(uri, patience, on_retry)
    known = is_local(uri) or (max_bytes is not None and size_bytes is None and not store.is_http)
    if known:
        size_bytes = _size_now(store)
    if max_bytes is not None and size_bytes is not None and size_bytes > max_bytes:
        raise TooManyBytesError(f"{size_bytes} bytes, at most {max_bytes} are read")
    data = store.call(lambda fs, path: fs.cat_file(path), read=(size_bytes, max_bytes))
    if size_bytes is not None and len(data) != size_bytes:
        # It may have been replaced since it was listed: only what is said now counts.
        said = size_bytes if known else _size_now(store)
        if said != len(data):
            raise ChangedError(f"{len(data)} bytes came, {said} were expected")
    return bytes(data)


def _size_now(store: Store) -> int | None:
    if not is_local(store.uri):
        try:
            return int(store.call(lambda fs, path: fs.size(path)) or 0)
        except (FileNotFoundError, PermissionError):
            return None  # a HEAD tells no reason: the GET that follows does
    try:
        status = os.stat(store.path)
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            raise BadUriError(error.strerror) from None
        raise
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularFileError("not a regular file")
    return status.st_size


def open_input(uri: str) -> IO[bytes]:
    """A seekable binary file opened for reading, for Parquet; every read is retried."""
    store = Store(uri)
    if is_local(uri):
        return open(store.path, "rb")  # noqa: SIM115 - the caller closes it
    size = int(store.call(lambda fs, path: fs.size(path)))
    return io.BufferedReader(RemoteFile(store, size), _BUFFER_BYTES)


def write_bytes(uri: str, data: bytes, *, patience: Patience = ARTIFACT) -> None:
    """Write one file whole: readers see the old content or the new, never a part.

    Raises:
        StoreRefusedError: there is no space, or writing is refused.
        TransientStorageError: the store failed again and again.
    """
    store = Store(uri, patience)
    with _refused_writes(uri):
        if is_local(uri):
            with _temporary(store, data) as temporary:
                os.replace(temporary, store.path)
        else:
            store.call(lambda fs, path: fs.pipe_file(path, data), written=len(data))


def create_bytes(uri: str, data: bytes) -> bool:
    """Write one file only if nothing is there yet. Returns whether this call wrote it.

    Local files appear whole (temporary file, fsync, hard link); object stores use a conditional
    put. Raises as `write_bytes` does.
    """
    store = Store(uri)
    with _refused_writes(uri):
        try:
            if is_local(uri):
                with _temporary(store, data) as temporary:
                    os.link(temporary, store.path)
            else:
                store.call(
                    lambda fs, path: fs.pipe_file(path, data, mode="create"), written=len(data)
                )
        except FileExistsError:
            # A retried request may meet its own first try: then this call did write it.
            return not is_local(uri) and read_bytes(uri) == data
    return True


def link(uri: str, target: str) -> None:
    """A symbolic link at local `uri` to the local file `target`, unless something is there."""
    with _refused_writes(uri):
        os.makedirs(os.path.dirname(uri), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(absolute(target), uri)


def sign(uri: str, *, seconds: int) -> str:
    """A web address of one file that needs no credentials for `seconds`; a local path as it is.

    Raises:
        InputError: this kind of store has none.
    """
    if is_local(uri) or uri.startswith(("http://", "https://")):
        return uri
    try:
        return str(Store(uri).call(lambda fs, path: fs.sign(path, expiration=seconds)))
    except NotImplementedError:
        raise InputError(
            f"manifests.sign_seconds: {uri}: this kind of store signs no addresses"
        ) from None


def replace_absent(uri: str, data: bytes) -> bool:
    """As `create_bytes` for stores that cannot do it: right only for a single writer."""
    if exists(uri):
        return False
    write_bytes(uri, data)
    return True


def can_create(uri: str) -> bool:
    """Whether `create_bytes` below folder `uri` excludes a second writer, found out by trying."""
    probe = join(uri, f".probe-{uuid.uuid4().hex}")
    try:
        return create_bytes(probe, b"1") and not create_bytes(probe, b"2")
    except (StoreRefusedError, NotImplementedError):
        write_bytes(probe, b"")  # raises if nothing at all can be written here
        return False  # a file system without hard links, or a store that knows no conditions
    finally:
        delete(probe)


@contextlib.contextmanager
def _temporary(store: Store, data: bytes) -> Iterator[str]:
    """A new file beside the store's path that holds `data` for sure; deleted if still there."""
    folder = os.path.dirname(store.path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".writing-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def _refused_writes(uri: str) -> Iterator[None]:
    """Failures to write are about the place, never about what is written."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise StoreRefusedError(f"{uri}: cannot be written: {describe(error)}") from error


def _modified(info: Mapping[str, Any]) -> float:
    found = info.get("mtime") or info.get("LastModified") or info.get("updated") or 0
    return float(found.timestamp() if hasattr(found, "timestamp") else found)
