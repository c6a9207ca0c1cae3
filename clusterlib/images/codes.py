"""The closed set of reasons for which an image is quarantined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CODES: Final = {
    "no_uri": "the catalogue row has no URI",
    "bad_uri": "the URI is malformed or of a kind that cannot be opened",
    "gone": "nothing is at the URI",
    "forbidden": "the store refuses access to this file",
    "not_regular": "a folder, pipe, socket or device",
    "too_many_bytes": "the file is larger than images.max_bytes",
    "empty": "the file has no bytes",
    "not_image": "the content is text, HTML, XML or JSON",
    "unsupported_format": "an image format outside the allow-list",
    "unsupported_mode": "pixel values that have no agreed meaning as a picture, such as floats",
    "too_large": "more pixels than images.max_pixels",
    "aspect": "longer than 1000 times its width",
    "bomb": "compressed side data that expands beyond all measure",
    "truncated": "the file ends too early",
    "corrupt": "the content contradicts its own checks",
    "undecodable": "the bytes are no image that the decoder knows",
    "decoder_crash": "decoding it ended the decoder's process",
    "decoder_timeout": "decoding it took longer than images.max_decode_seconds",
    "decoder_oom": "decoding it took more memory than images.max_decode_mb",
    "bad_vector": "the encoder returned NaN, infinity or zero for it",
}


@dataclass(frozen=True)
class Rejection:
    """Why one image cannot be used. `code` is stable; `detail` is for people."""

    code: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"unknown quarantine code {self.code!r}; known: {', '.join(CODES)}")
