"""A proxy in front of an S3 server that does to requests what networks and stores do."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

ERRORS = {
    "busy": (503, "SlowDown", "Please reduce your request rate."),
    "expired": (400, "ExpiredToken", "The provided token has expired."),
    "no_bucket": (404, "NoSuchBucket", "The specified bucket does not exist"),
    "denied": (403, "AccessDenied", "Access Denied"),
}
STALL_S = 90.0


@dataclass(frozen=True)
class Request:
    """What a fault may depend on."""

    number: int  # counted from 1 since the proxy has started
    method: str
    path: str  # without the query


Fault = Callable[[Request], str]


def healthy(request: Request) -> str:
    """No fault at all."""
    return "pass"


def rates(seed: int, **shares: float) -> Fault:
    """Each fault with its share of the requests, the same ones for the same seed and order."""
    rng = random.Random(seed)
    lock = threading.Lock()

    def fault(request: Request) -> str:
        with lock:
            draw = rng.random()
        for name, share in shares.items():
            if draw < share:
                return name
            draw -= share
        return "pass"

    return fault


class FaultProxy:
    """Forwards to `upstream`; `fault` says what befalls each request.

    pass · busy, expired, no_bucket, denied: an error of the store · reset, short, stall: the answer
    breaks off half-way · kill_before, kill_middle, kill_after: process `victim` gets SIGKILL before
    the store sees the request, in the middle of it, or when it has done it. As on S3, a body that
    did not come whole is never stored.
    """

    def __init__(self, upstream: str, *, fault: Fault = healthy) -> None:
        self.fault = fault
        self.victim: int | None = None
        self.requests: Counter[tuple[str, str]] = Counter()
        self.faults: Counter[str] = Counter()
        self._upstream = urlsplit(upstream).netloc
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def reset_counts(self) -> None:
        with self._lock:
            self.requests.clear()
            self.faults.clear()

    @property
    def total(self) -> int:
        return sum(self.requests.values())

    def fetches(self, prefix: str) -> Counter[str]:
        """How often each object below `prefix` (/bucket/key...) was fetched."""
        return Counter(
            {
                path: count
                for (method, path), count in self.requests.items()
                if method == "GET" and path.startswith(prefix) and path != prefix
            }
        )

    def _decide(self, method: str, path: str) -> str:
        with self._lock:
            self.requests[method, path] += 1
            request = Request(self.total, method, path)
        fault = self.fault(request)
        with self._lock:
            self.faults[fault] += 1
        return fault

    def _forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            # The server takes a foreign host name for that of a bucket.
            headers = {name: value for name, value in headers.items() if name.lower() != "host"}
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that were killed or cut off


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, or each answer waits 40 ms for the other
        disable_nagle_algorithm = True

        def log_message(self, *args: object) -> None:
            pass

        def handle_expect_100(self) -> bool:
            going_on = super().handle_expect_100()
            self.wfile.flush()
            return going_on

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self._serve(proxy._decide(self.command, self.path.partition("?")[0]))

        def _serve(self, fault: str) -> None:
            if fault == "kill_before":
                return self._kill()
            length = int(self.headers.get("Content-Length") or 0)
            if fault == "kill_middle":
                self.rfile.read(length // 2)
                return self._kill()
            body = self.rfile.read(length)
            if fault in ERRORS:
                status, code, message = ERRORS[fault]
                xml = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
                return self._answer(status, [("Content-Type", "application/xml")], xml)
            answer = proxy._forward(self.command, self.path, dict(self.headers), body)
            if fault == "kill_after":
                return self._kill()
            return self._answer(*answer, cut=fault if fault != "pass" else None)

        def _answer(
            self, status: int, headers: list[tuple[str, str]], body: bytes, cut: str | None = None
        ) -> None:
            kept = ("connection", "transfer-encoding", "content-length", "date", "server")
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in kept:
                    self.send_header(name, value)
            length = dict((name.lower(), value) for name, value in headers).get("content-length")
            said = length if self.command == "HEAD" and length else str(len(body))
            self.send_header("Content-Length", said)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body if cut is None else body[: len(body) // 2])
            self.wfile.flush()
            if cut == "stall":
                proxy._closing.wait(STALL_S)
            if cut is not None:
                self._drop(reset=cut == "reset")

        def _kill(self) -> None:
            assert proxy.victim is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(proxy.victim, signal.SIGKILL)
            self._drop(reset=True)

        def _drop(self, *, reset: bool) -> None:
            self.close_connection = True
            if reset:
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR) if not reset else None
            self.connection.close()

    return Handler


@contextlib.contextmanager
def in_front_of(upstream: str, *, fault: Fault = healthy) -> Iterator[FaultProxy]:
    """A proxy for the length of a `with` block."""
    proxy = FaultProxy(upstream, fault=fault)
    try:
        yield proxy
    finally:
        proxy.close()
