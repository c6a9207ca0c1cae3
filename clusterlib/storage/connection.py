"""One URI's file system, and how it is called: retries, deadlines, credentials taken up anew."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Callable
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem, sync

from clusterlib.errors import InputError
from clusterlib.storage.retries import (
    ARTIFACT,
    AnswerError,
    Patience,
    call_with_retries,
    describe,
)

# A try is given up when it takes longer than this, three times as long for each further one, and a
# second more for each megabyte: a connection that stalls is common, a store that slow is not. Once
# it is known how long files usually take, so many times that is enough.
_FIRST_DEADLINES_S = (1.0, 8.0)
_USUAL_TIMES = 20.0
_LONGEST_DEADLINE_S = 120.0
_BYTES_PER_S = 2**20
_CHUNK_BYTES = 2**16
# aiobotocore's; the tries are counted in `retries`.
_S3_OPTIONS = {
    "config_kwargs": {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": 5,
        "max_pool_connections": 64,
    }
}


class TooManyBytesError(AnswerError):
    """The file is larger than the caller accepts."""


class NotRegularFileError(AnswerError):
    """A folder, pipe, socket or device where a file was expected."""


class ChangedError(AnswerError):
    """The file became another one while it was read."""


class BadUriError(InputError):
    """The URI is malformed or of a kind that cannot be opened; says nothing about the store."""


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


class _Usual:
    """How long reading one file usually takes in this process: a decaying mean."""

    def __init__(self) -> None:
        self._mean: float | None = None

    def note(self, seconds: float) -> None:
        # Not locked: a lost update of a mean is no harm.
        self._mean = seconds if self._mean is None else 0.95 * self._mean + 0.05 * seconds

    def first_deadline(self) -> float:
        shortest, longest = _FIRST_DEADLINES_S
        if self._mean is None:
            return longest
        return min(max(_USUAL_TIMES * self._mean, shortest), longest)


_usual = _Usual()


class Store:
    """The file system behind one URI, and the way it is called."""

    def __init__(
        self,
        uri: str,
        patience: Patience = ARTIFACT,
        on_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self.uri = uri
        self._on_retry = on_retry
        self.is_http = uri.startswith(("http://", "https://"))
        self._patience = patience
        self._connect()

    def _connect(self) -> None:
        try:
            if is_local(self.uri):
                self._fs, self.path = fsspec.filesystem("file"), absolute(self.uri)
                return
            options = _S3_OPTIONS if self.uri.startswith(("s3://", "s3a://")) else {}
            # Listings must not be remembered: other processes write to the same folders.
            self._fs, self.path = fsspec.core.url_to_fs(
                self.uri, use_listings_cache=False, **options
            )
            if hasattr(self._fs, "retries"):
                self._fs.retries = 1
        except ValueError as error:
            raise BadUriError(f"{self.uri}: cannot be opened ({describe(error)})") from None
        except ImportError as error:
            raise InputError(f"{self.uri}: a package is missing: {describe(error)}") from None

    def _reconnect(self) -> None:
        """Take up credentials that were renewed meanwhile."""
        if isinstance(self._fs, AsyncFileSystem):
            type(self._fs).clear_instance_cache()
            self._connect()

    def call(
        self,
        operation: Callable[[Any, str], Any],
        *,
        read: tuple[int | None, int | None] | None = None,
        written: int = 0,
    ) -> Any:
        """`operation(file system, path)` with retries and, on a network, a deadline.

        `read` is for the content of a file: its size if known, and how much of it is taken.
        """

        def attempt(number: int) -> Any:
            if not isinstance(self._fs, AsyncFileSystem):
                return operation(self._fs, self.path)
            size = written + ((read[0] or read[1] or 0) if read else 0)
            first = _FIRST_DEADLINES_S[1] if read is None else _usual.first_deadline()
            timeout = min(first * 3 ** (number - 1), _LONGEST_DEADLINE_S) + size / _BYTES_PER_S
            if read is None:
                return operation(_WithDeadline(self._fs, timeout), self.path)
            started = time.monotonic()
            content = self._content(read[1], timeout)
            _usual.note(time.monotonic() - started)
            return content

        # A signed URL's query is a secret.
        place = self.uri.partition("?")[0]
        return call_with_retries(
            attempt,
            place=place,
            patience=self._patience,
            on_refusal=self._reconnect,
            on_retry=self._on_retry,
        )

    def _content(self, max_bytes: int | None, timeout: float) -> Any:
        if self.is_http:
            return _within(timeout, self._fs, _http_body, self._fs, self.path, max_bytes)
        options = {"max_concurrency": 1} if hasattr(self._fs, "max_concurrency") else {}
        return _within(timeout, self._fs, self._fs._cat_file, self.path, **options)


class _WithDeadline:
    """An asynchronous file system whose synchronous methods end in time."""

    def __init__(self, fs: AsyncFileSystem, timeout: float) -> None:
        self._fs, self._timeout = fs, timeout

    def __getattr__(self, name: str) -> Callable[..., Any]:
        coroutine = getattr(self._fs, f"_{name}", None)
        if coroutine is None:
            plain: Callable[..., Any] = getattr(self._fs, name)
            return plain
        return lambda *args, **kwargs: _within(self._timeout, self._fs, coroutine, *args, **kwargs)


def _within(
    timeout: float, fs: AsyncFileSystem, coroutine: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Run `coroutine` on the file system's event loop; what is late is cancelled.

    `sync` itself would let it run on, and hold one of the few connections until the end.
    """

    async def bounded() -> Any:
        return await asyncio.wait_for(coroutine(*args, **kwargs), timeout)

    return sync(fs.loop, bounded)


async def _http_body(fs: Any, url: str, max_bytes: int | None) -> bytes:
    """The body of a web page's file, at most `max_bytes` and a chunk of it."""
    session = await fs.set_session()
    async with session.get(fs.encode_url(url), **fs.kwargs) as response:
        if response.status in (404, 410):
            raise FileNotFoundError(url)
        if 400 <= response.status < 500 and response.status not in (408, 425, 429):
            raise PermissionError(f"HTTP status {response.status}")
        response.raise_for_status()
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if max_bytes is not None and len(body) > max_bytes:
                raise TooManyBytesError(f"more than the {max_bytes} bytes that are read")
    return bytes(body)


class RemoteFile(io.RawIOBase):
    """A file in an object store, read by ranges."""

    def __init__(self, store: Store, size: int) -> None:
        self._store, self._size, self._at = store, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        start, self._at = self._at, stop
        buffer[: stop - start] = self._store.call(
            lambda fs, path: fs.cat_file(path, start=start, end=stop), written=stop - start
        )
        return stop - start
