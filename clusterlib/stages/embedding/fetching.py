"""Reading images while telling "this image is bad" from "the store does not work".

A row is blamed only while the store is known to work: refusals are believed when an image that was
readable before still is; when nothing at all can be read, the reader waits, and then stops the job.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from clusterlib import storage
from clusterlib.errors import InputError, StoreRefusedError, TransientStorageError
from clusterlib.images.codes import Rejection

# How long nothing may be readable before the job stops, and the same for a name that no longer
# resolves, which seldom comes back by waiting.
OUTAGE_S = 120.0
UNKNOWN_HOST_S = 20.0
# So many refusals without a single success are about the caller, not about the images.
REFUSED_ROWS = 8
_LONGEST_PAUSE_S = 10.0
_REFUSALS = ("gone", "forbidden")

Outcome = bytes | Rejection | TransientStorageError


@dataclass(frozen=True)
class ReadPlan:
    """How images are read.

    `root` is the local folder of the catalogue, out of which no symbolic link may lead;
    `known_good` the URI of an image that could be read, if there is one yet.
    """

    threads: int
    max_bytes: int
    root: str | None = None
    known_good: str | None = None


@dataclass
class Spent:
    """What reading one image has taken: seconds of the clock, pauses included."""

    seconds: float = 0.0
    tries: int = 0

    def count_try(self) -> None:
        self.tries += 1


class Reader:
    """Reads the images of a catalogue; one in each worker process."""

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan
        self._known_good = plan.known_good
        self.spent: dict[int, Spent] = {}  # by index, of the last `read`

    def read(
        self, rows: Sequence[dict[str, Any]], use: Callable[[int, bytes | Rejection], None]
    ) -> None:
        """Read every row's `uri` and hand it to `use(index, outcome)`.

        Rows that the store fails to deliver, while it delivers others, are left out: a later pass
        does them.

        Raises:
            StoreRefusedError: credentials or access were lost, for whatever is asked.
            TransientStorageError: nothing could be read for OUTAGE_S.
        """
        self.spent = {index: Spent() for index in range(len(rows))}
        pending = list(range(len(rows)))
        refused: list[tuple[int, Rejection]] = []
        waiting_since = time.monotonic()
        pause = 1.0
        while pending:
            failures: dict[int, TransientStorageError] = {}
            delivered = False
            for index, outcome in self._stream(rows, pending):
                if isinstance(outcome, TransientStorageError):
                    failures[index] = outcome
                elif isinstance(outcome, Rejection) and outcome.code in _REFUSALS:
                    refused.append((index, outcome))
                else:
                    delivered = delivered or isinstance(outcome, bytes)
                    use(index, outcome)
            pending = list(failures)
            if delivered or not pending or self._still_works():
                break
            self._give_up_after(time.monotonic() - waiting_since, next(iter(failures.values())))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        if refused:
            self._believe(refused)
        for index, rejection in refused:
            use(index, rejection)

    def _stream(
        self, rows: Sequence[dict[str, Any]], indices: Sequence[int]
    ) -> Iterator[tuple[int, Outcome]]:
        """Outcomes as they come; a few files are read ahead, so that memory stays small."""
        waiting = iter(indices)
        with ThreadPoolExecutor(self._plan.threads) as pool:
            reading: dict[Future[Outcome], int] = {}
            while True:
                for index in itertools.islice(waiting, 2 * self._plan.threads - len(reading)):
                    reading[pool.submit(self._read_one, rows[index], self.spent[index])] = index
                if not reading:
                    return
                # One that stalls holds up no other.
                for future in wait(reading, return_when=FIRST_COMPLETED).done:
                    yield reading.pop(future), future.result()

    def _read_one(self, row: dict[str, Any], spent: Spent) -> Outcome:
        started = time.perf_counter()
        spent.tries += 1
        outcome = read_image(
            row["uri"],
            max_bytes=self._plan.max_bytes,
            size_bytes=row["size_bytes"],
            root=self._plan.root,
            on_retry=spent.count_try,
        )
        spent.seconds += time.perf_counter() - started
        if isinstance(outcome, bytes):
            self._known_good = row["uri"]
        return outcome

    def _still_works(self) -> bool:
        """Whether the image that was readable still is; False also if there is none."""
        if self._known_good is None:
            return False
        return isinstance(read_image(self._known_good, max_bytes=self._plan.max_bytes), bytes)

    def _give_up_after(self, seconds: float, failure: TransientStorageError) -> None:
        limit = UNKNOWN_HOST_S if storage.is_unknown_host(failure) else OUTAGE_S
        if seconds > limit:
            raise TransientStorageError(
                f"no image could be read for {seconds:.0f} s: {failure}"
            ) from failure

    def _believe(self, refused: Sequence[tuple[int, Rejection]]) -> None:
        """Check that refusals are about the rows, by an image that could be read before."""
        index, rejection = refused[0]
        if self._known_good is None:
            codes = {one.code for _, one in refused}
            if codes == {"forbidden"} and len(refused) >= REFUSED_ROWS:
                raise StoreRefusedError(
                    f"access to each of the first {len(refused)} images was refused "
                    f"({rejection.detail}); check the credentials, then run the same command again"
                )
            return
        started = time.monotonic()
        while not isinstance(
            outcome := read_image(self._known_good, max_bytes=self._plan.max_bytes), bytes
        ):
            if isinstance(outcome, Rejection):
                raise StoreRefusedError(
                    f"{self._known_good}: could be read before and is {outcome.code} now; check "
                    "that the store is there and lets you in, then run the same command again"
                )
            self._give_up_after(time.monotonic() - started, outcome)
            time.sleep(1.0)


def read_image(
    uri: str | None,
    *,
    max_bytes: int,
    size_bytes: int | None = None,
    root: str | None = None,
    on_retry: Callable[[], None] = lambda: None,
) -> Outcome:
    """The bytes of an image, the reason against it, or the fault of the store.

    Raises:
        StoreRefusedError: the store refuses everything.
    """
    if not uri:
        return Rejection("no_uri")
    try:
        if root is not None and not _is_inside(uri, root):
            return Rejection("path_escape", "a link out of the folder: name its target as source")
        return storage.read_bytes(
            uri,
            max_bytes=max_bytes,
            size_bytes=size_bytes,
            patience=storage.IMAGE,
            on_retry=on_retry,
        )
    except storage.BadUriError as error:
        return Rejection("bad_uri", str(error)[:200])
    except FileNotFoundError:
        return Rejection("gone")
    except PermissionError as error:
        return Rejection("forbidden", str(error)[:200])
    except storage.TooManyBytesError as error:
        return Rejection("too_many_bytes", str(error))
    except storage.ChangedError as error:
        return Rejection("changed", str(error))
    except (storage.NotRegularFileError, IsADirectoryError, NotADirectoryError):
        return Rejection("not_regular")
    except ValueError:  # for example a NUL byte in a path
        return Rejection("bad_uri", "not a valid path")
    except TransientStorageError as error:
        return error
    except StoreRefusedError:
        raise
    except InputError as error:  # a package for this kind of URI is missing
        return Rejection("bad_uri", str(error)[:200])


def _is_inside(path: str, root: str) -> bool:
    """Whether `path`, links followed, lies in `root`; a link that leads nowhere does not."""
    try:
        target = os.path.realpath(path, strict=True)
    except OSError:
        return not os.path.islink(path)
    base = os.path.realpath(root)
    return os.path.commonpath((target, base)) == base
