"""Which faults of a store pass by themselves, which never do, and how long to wait.

A fault is judged by the type of its exception and by the store's own error code, never by words of
a message. Pauses grow and are jittered, and a budget for the whole process keeps many threads from
hammering a store that is down: the "standard" retry mode of the AWS SDKs.
https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
"""

from __future__ import annotations

import errno
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from clusterlib.errors import StoreRefusedError, TransientStorageError

T = TypeVar("T")


class Fault(Enum):
    """What an exception says."""

    ANSWER = "about this file: missing, refused, there already"
    PASSING = "about the moment: busy, slow, cut off"
    REFUSAL = "about the caller or the whole store: credentials, bucket, space"


class AnswerError(Exception):
    """What is said of one file, by the store or by us; no other try will change it."""


_ANSWERS = (
    AnswerError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    # Ours or the caller's fault, such as a malformed URL.
    NotImplementedError,
    TypeError,
    ValueError,
)
_REFUSING_CODES = {
    "AccountProblem",
    "AllAccessDisabled",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "NoSuchBucket",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
}
# By name, since the client libraries that own these types are optional.
_REFUSING_TYPES = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "ProfileNotFound",
}
_REFUSING_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def fault_of(error: BaseException) -> Fault:
    """What `error`, raised by a store's client, says."""
    chain = list(_chain(error))
    if any(_refuses_everything(one) for one in chain):
        return Fault.REFUSAL
    if isinstance(error, _ANSWERS):
        return Fault.ANSWER
    return Fault.PASSING


def is_unknown_host(error: BaseException) -> bool:
    """Whether the store's name could not be resolved."""
    return any(isinstance(one, socket.gaierror) for one in _chain(error))


def _refuses_everything(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _REFUSING_ERRNOS:
        return True
    response: Any = getattr(error, "response", None)
    details = response.get("Error", {}) if isinstance(response, dict) else {}
    return str(details.get("Code")) in _REFUSING_CODES or any(
        kind.__name__ in _REFUSING_TYPES for kind in type(error).__mro__
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what caused it, also where a client library keeps the cause for itself."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        one = todo.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = getattr(one, "kwargs", None)
        todo += [
            one.__cause__,
            one.__context__,
            getattr(one, "os_error", None),
            inner.get("error") if isinstance(inner, dict) else None,
        ]


@dataclass(frozen=True)
class Patience:
    """How long one call may be tried.

    `attempts` bounds the tries and `seconds` the time in which a new one may begin. `name_seconds`
    is the time for a host whose name is unknown: names come back sooner than stores, or never.
    """

    attempts: int
    seconds: float
    name_seconds: float
    first_pause: float = 0.1
    longest_pause: float = 10.0


# An image can wait for a later pass; an artifact of the run cannot.
IMAGE = Patience(attempts=5, seconds=60, name_seconds=5)
ARTIFACT = Patience(attempts=40, seconds=120, name_seconds=20)


class RetryBudget:
    """A bucket of tokens: a retry takes some, a success gives one back."""

    def __init__(self, capacity: float = 500.0, cost: float = 5.0) -> None:
        self._capacity = self._tokens = capacity
        self._cost = cost
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether a retry is allowed."""
        with self._lock:
            if self._tokens < self._cost:
                return False
            self._tokens -= self._cost
            return True

    def refund(self) -> None:
        """Something worked."""
        with self._lock:
            self._tokens = min(self._capacity, self._tokens + 1)


_budget = RetryBudget()


def call_with_retries(
    call: Callable[[int], T],
    *,
    place: str,
    patience: Patience,
    on_refusal: Callable[[], None],
    on_retry: Callable[[], None] = lambda: None,
) -> T:
    """`call(attempt)`, attempts counted from 1, until it works or patience ends.

    Args:
        call: What to try.
        place: What is named in an error; must hold no secret.
        patience: How long.
        on_refusal: Called once, before one more try, when credentials may have been renewed.
        on_retry: Called before each pause after which a fault is tried again.

    Raises:
        FileNotFoundError, PermissionError, FileExistsError, ...: the store's answer.
        StoreRefusedError: the store refuses everything.
        TransientStorageError: it kept failing.
    """
    started = time.monotonic()
    pause = patience.first_pause
    refused = False
    for attempt in range(1, patience.attempts + 1):
        try:
            result = call(attempt)
            _budget.refund()
            return result
        except Exception as error:  # noqa: BLE001 - stores raise their own client libraries' types
            fault = fault_of(error)
            if fault is Fault.ANSWER:
                raise
            words = f"{place}: {describe(error)}"
            if fault is Fault.REFUSAL:
                if refused:
                    raise StoreRefusedError(words) from error
                refused = True
                on_refusal()
                continue
            limit = patience.name_seconds if is_unknown_host(error) else patience.seconds
            waited = time.monotonic() - started + pause
            last = attempt == patience.attempts or waited > limit
            # What the run cannot do without is tried again whatever the budget says.
            if last or (patience is IMAGE and not _budget.take()):
                raise TransientStorageError(words) from error
            on_retry()
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause = min(2 * pause, patience.longest_pause)
    raise TransientStorageError(f"{place}: refused after its credentials were renewed")


def describe(error: BaseException) -> str:
    """Type and first line of an error, for people."""
    line = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
