"""URIs, on real folders and a real S3 server."""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

import pytest

from clusterlib import storage
from clusterlib.errors import InputError, TransientStorageError


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
    with pytest.raises(InputError, match="cannot be opened"):
        storage.read_bytes("nosuch://x/y")


def test_an_unreachable_store_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(storage, "_ATTEMPTS", 1)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(TransientStorageError, match="connect"):
            storage.read_bytes("s3://bucket/key")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_absolute() -> None:
    assert storage.absolute("file:///a/b") == "/a/b"
    assert storage.absolute("a") == os.path.join(os.getcwd(), "a")
    assert storage.absolute("s3://bucket/prefix/") == "s3://bucket/prefix"
