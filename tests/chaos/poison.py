"""Images that segfault, hang, or eat memory when they are opened.

A marker behind the end of a real picture; tests/chaos/rigged/sitecustomize.py, put first on the
path of a job under test, makes Pillow act on it. Real decoders skip what follows the picture.
"""

from __future__ import annotations

MARKER = b"\x00clusterlib chaos: "
POISON = ("segfault", "hang", "memory")


def poisoned(picture: bytes, kind: str) -> bytes:
    """`picture` with a marker that makes opening it do what `kind` says."""
    if kind not in POISON:
        raise ValueError(f"unknown poison {kind!r}; known: {', '.join(POISON)}")
    return picture + MARKER + kind.encode()
