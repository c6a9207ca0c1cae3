"""URIs, on real folders and a real S3 server."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import pytest

from clusterlib import storage
from clusterlib.errors import InputError, StoreRefusedError, TransientStorageError
from clusterlib.storage.retries import call_with_retries

ONCE = storage.Patience(attempts=1, seconds=5, name_seconds=5)
ONCE_MORE = storage.Patience(attempts=2, seconds=5, name_seconds=5)


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path)
    request.getfixturevalue("s3_endpoint")
    import s3fs

    bucket = f"b-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}"


def test_write_read_list(root: str) -> None:
    for name in ("b/2.bin", "a 1%#?.bin", "b/.hidden"):
        storage.write_bytes(storage.join(root, name), name.encode())
    listed = list(storage.list_files(root))
    assert [info.uri for info in listed] == [
        storage.join(root, "a 1%#?.bin"),
        storage.join(root, "b/2.bin"),
    ]
    assert [storage.read_bytes(info.uri).decode() for info in listed] == ["a 1%#?.bin", "b/2.bin"]
    assert [info.size_bytes for info in listed] == [10, 7]


def test_create_has_one_winner(root: str) -> None:
    uri = storage.join(root, "commits/1.json")
    wins: list[str] = []

    def race(name: str) -> None:
        if storage.create_bytes(uri, name.encode()):
            wins.append(name)

    threads = [threading.Thread(target=race, args=(f"writer-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert storage.read_bytes(uri).decode() == wins[0]


def test_missing_and_too_large_files_say_so(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(root, "nothing"))
    storage.write_bytes(storage.join(root, "big"), b"x" * 100)
    with pytest.raises(storage.TooManyBytesError, match="100 bytes"):
        storage.read_bytes(storage.join(root, "big"), max_bytes=99)
    assert len(storage.read_bytes(storage.join(root, "big"), max_bytes=100)) == 100


def test_a_missing_folder_or_bucket_is_one_sentence(root: str) -> None:
    missing = storage.join(root, "none") if storage.is_local(root) else "s3://no-such-bucket-here"
    with pytest.raises(InputError, match="no such"):
        list(storage.list_files(missing))


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(storage.NotRegularFileError):
        storage.read_bytes(str(pipe))


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be opened \\("):
        storage.read_bytes("nosuch://x/y")


def test_an_unreachable_store_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(TransientStorageError, match="connect"):
            storage.read_bytes("s3://bucket/key", patience=ONCE)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        ("ExpiredToken", PermissionError, StoreRefusedError),
        ("InvalidAccessKeyId", PermissionError, StoreRefusedError),
        ("NoSuchBucket", FileNotFoundError, StoreRefusedError),
        ("AccessDenied", PermissionError, PermissionError),
        ("NoSuchKey", FileNotFoundError, FileNotFoundError),
    ],
)
def test_what_refuses_everything_is_not_about_one_file(
    code: str, kind: type[Exception], expected: type[Exception]
) -> None:
    """As s3fs translates S3's answers: its own type, the client library's as cause."""

    class ClientError(Exception):
        response = {"Error": {"Code": code}}

    tries: list[int] = []

    def answer(attempt: int) -> None:
        tries.append(attempt)
        raise kind("refused") from ClientError()

    renewed: list[bool] = []
    with pytest.raises(expected) as caught:
        call_with_retries(
            answer, place="s3://b/k", patience=ONCE_MORE, on_refusal=lambda: renewed.append(True)
        )
    # Credentials that were renewed meanwhile get one chance; an answer about a file gets none.
    assert (len(tries), len(renewed)) == ((2, 1) if expected is StoreRefusedError else (1, 0))
    if expected is StoreRefusedError:
        assert str(caught.value) == f"s3://b/k: {kind.__name__}: refused"


def test_http_failures_are_not_missing_files() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response({"/gone": 404, "/busy": 503}.get(self.path, 200))
            self.end_headers()
            self.wfile.write(b"x" * 50)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}"
    try:
        assert storage.read_bytes(f"{root}/image", max_bytes=50) == b"x" * 50
        with pytest.raises(storage.TooManyBytesError):
            storage.read_bytes(f"{root}/image", max_bytes=49)
        with pytest.raises(FileNotFoundError):
            storage.read_bytes(f"{root}/gone", max_bytes=99)
        with pytest.raises(TransientStorageError, match="503"):
            storage.read_bytes(f"{root}/busy", max_bytes=99, patience=ONCE)
    finally:
        server.shutdown()


def test_files_keep_the_users_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        storage.write_bytes(str(tmp_path / "x"), b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_absolute() -> None:
    assert storage.absolute("file:///a/b") == "/a/b"
    assert storage.absolute("a") == os.path.join(os.getcwd(), "a")
    assert storage.absolute("s3://bucket/prefix/") == "s3://bucket/prefix"
