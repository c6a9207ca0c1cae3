"""The only module that opens URIs: join, list, read, create, over fsspec.

A URI is a local path or anything fsspec knows (`s3://`, `gs://`, `memory://`, ...). Credentials
come from each store's own default chain and never pass through here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import fsspec

from clusterlib.errors import InputError, TransientStorageError

T = TypeVar("T")

_ATTEMPTS = 4
_FIRST_PAUSE_S = 0.5
_SYSTEMIC_CODES = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NoSuchBucket",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}


class TooManyBytesError(Exception):
    """The file is larger than the caller accepts; nothing was read."""


class BadUriError(InputError):
    """The URI is malformed or of a kind that cannot be opened; says nothing about the store."""


class NotRegularFileError(Exception):
    """A folder, pipe, socket or device where a file was expected."""


@dataclass(frozen=True)
class FileInfo:
    """One listed file."""

    uri: str
    size_bytes: int
    etag: str


def absolute(uri: str) -> str:
    """`uri` with local paths made absolute and `file://` removed; other schemes unchanged."""
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if is_local(uri):
        return os.path.abspath(os.path.expanduser(uri))
    return uri.rstrip("/")


def is_local(uri: str) -> bool:
    """Whether `uri` is a path on this machine's file system."""
    return "://" not in uri or uri.startswith("file://")


def join(uri: str, *parts: str) -> str:
    """`uri` and `parts` with single slashes between them."""
    return "/".join([uri.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Whether a file or folder is at `uri`."""
    fs, path = _open_store(uri)
    return bool(_with_retries(lambda: fs.exists(path), uri))


def list_files(uri: str) -> Iterator[FileInfo]:
    """Every file under `uri`, sorted by name; hidden files and folders are left out.

    Raises:
        InputError: there is no such folder or bucket, or access to it is refused.
    """
    fs, path = _open_store(uri)
    protocol = "" if is_local(uri) else uri.split("://", 1)[0] + "://"
    try:
        if is_local(uri) and not fs.isdir(path):
            raise InputError(f"{uri}: no such folder; check catalog.source")
        found = _with_retries(lambda: fs.find(path, detail=True), uri)
    except FileNotFoundError:
        raise InputError(f"{uri}: no such bucket or prefix; check catalog.source") from None
    except TransientStorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # as S3 says of a missing bucket
            raise InputError(f"{uri}: no such bucket; check catalog.source") from None
        raise
    except PermissionError as error:
        raise InputError(f"{uri}: access refused ({_first_line(error)})") from None
    root = path.rstrip("/") + "/"
    for name in sorted(found):
        relative = name.removeprefix(root)
        if any(part.startswith(".") for part in relative.split("/")):
            continue
        info = found[name]
        etag = str(info.get("ETag") or info.get("etag") or "").strip('"')
        yield FileInfo(f"{protocol}{name}", int(info.get("size") or 0), etag)


def read_json(uri: str) -> dict[str, Any] | None:
    """A JSON object, or None when there is no such file."""
    try:
        found: dict[str, Any] = json.loads(read_bytes(uri))
    except FileNotFoundError:
        return None
    return found


def write_json(uri: str, body: Mapping[str, Any]) -> None:
    """Write a JSON object for people and programs."""
    write_bytes(uri, (json.dumps(dict(body), indent=2) + "\n").encode())


def delete(uri: str) -> None:
    """Delete a file or a folder with all that is in it; nothing happens when there is none."""
    fs, path = _open_store(uri)
    with contextlib.suppress(FileNotFoundError):
        _with_retries(lambda: fs.rm(path, recursive=True), uri)


def read_bytes(uri: str, *, max_bytes: int | None = None, size_bytes: int | None = None) -> bytes:
    """The content of one file, with retries.

    Args:
        uri: What to read.
        max_bytes: Refuse larger files before reading them.
        size_bytes: The size, when a listing has told it; saves a request.

    Raises:
        FileNotFoundError, PermissionError: as the store says.
        TooManyBytesError, NotRegularFileError: refused before reading.
        BadUriError: nothing can ever be at such a URI.
        TransientStorageError: the store failed again and again, or refuses everything.
    """
    fs, path = _open_store(uri)
    if is_local(uri):
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
                raise BadUriError(error.strerror) from None
            raise
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularFileError("not a regular file")
        size_bytes = status.st_size
    elif max_bytes is not None and size_bytes is None and not uri.startswith("http"):
        # fsspec's size of an HTTP URL says "not found" for every kind of failure.
        size_bytes = int(_with_retries(lambda: fs.size(path), uri) or 0)
    if max_bytes is not None and size_bytes is not None and size_bytes > max_bytes:
        raise TooManyBytesError(f"{size_bytes} bytes, at most {max_bytes} are read")
    data: bytes = _with_retries(lambda: fs.cat_file(path), uri)
    if max_bytes is not None and len(data) > max_bytes:
        raise TooManyBytesError(f"{len(data)} bytes, at most {max_bytes} are taken")
    return data


def open_input(uri: str) -> IO[bytes]:
    """A seekable binary file opened for reading, for Parquet."""
    fs, path = _open_store(uri)
    handle: IO[bytes] = _with_retries(lambda: fs.open(path, "rb"), uri)
    return handle


def write_bytes(uri: str, data: bytes) -> None:
    """Write one file whole: readers see the old content or the new, never a part."""
    fs, path = _open_store(uri)
    if not is_local(uri):
        _with_retries(lambda: fs.pipe_file(path, data), uri)
        return
    temporary = _write_temporary(path, data)
    os.replace(temporary, path)


def create_bytes(uri: str, data: bytes) -> bool:
    """Write one file only if nothing is there yet. Returns whether this call wrote it.

    Local files appear whole (temporary file, fsync, hard link); object stores use a conditional
    put.
    """
    fs, path = _open_store(uri)
    if is_local(uri):
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return _create_exclusive(path, data)
        finally:
            os.unlink(temporary)
        return True
    try:
        _with_retries(lambda: fs.pipe_file(path, data, mode="create"), uri)
    except FileExistsError:
        # A retried request may meet its own first try: then this call did write it.
        return read_bytes(uri) == data
    return True


def _write_temporary(path: str, data: bytes) -> str:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".writing-{uuid.uuid4().hex}")
    _create_exclusive(temporary, data)
    return temporary


def _create_exclusive(path: str, data: bytes) -> bool:
    try:
        with open(path, "xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
    except FileExistsError:
        return False
    return True


def _open_store(uri: str) -> tuple[Any, str]:
    try:
        if is_local(uri):
            return fsspec.filesystem("file"), absolute(uri)
        # Listings must not be remembered: other processes write to the same folders.
        fs, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
        return fs, path
    except ValueError as error:
        raise BadUriError(f"{uri}: cannot be opened ({_first_line(error)})") from None
    except ImportError as error:
        raise InputError(f"{uri}: a package is missing: {_first_line(error)}") from None


def _with_retries(call: Callable[[], T], uri: str) -> T:
    """Retry what may pass; let through what is an answer (missing, refused, exists)."""
    pause = _FIRST_PAUSE_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return call()
        except (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError) as error:
            if _refuses_everything(error):
                place = uri.partition("?")[0]
                raise TransientStorageError(f"{place}: {_first_line(error)}") from error
            raise
        except Exception as error:  # noqa: BLE001 - stores raise their own client libraries' types
            if is_local(uri) or attempt == _ATTEMPTS:
                # A signed URL's query is a secret.
                place = uri.partition("?")[0]
                raise TransientStorageError(
                    f"{place}: {type(error).__name__}: {_first_line(error)}"
                ) from error
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause *= 2
    raise AssertionError("unreachable")


def _refuses_everything(error: BaseException) -> bool:
    """Whether an S3 refusal is about the caller or the bucket, and so about no single file.

    s3fs turns expired credentials into PermissionError and a missing bucket into FileNotFoundError.
    """
    response = getattr(error.__cause__, "response", None)
    code = str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""
    return code in _SYSTEMIC_CODES


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
