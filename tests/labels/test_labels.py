"""Names come back, and only those of this run."""

from __future__ import annotations

import pyarrow as pa
import pytest

from clusterlib.errors import InputError
from clusterlib.labels.names import fill_names, fit_of, read_names
from clusterlib.labels.propagate import label_rows
from clusterlib.tables.schemas import LABELS

HEADER = "run_id,fit_id,cluster_id,size,exemplar_uris,name,purity,notes\n"


def read(text: str, *, ids: tuple[int, ...] = (0, 1, 2)) -> dict[int, str]:
    return read_names(text.encode(), run_id="r", fit_id="f", cluster_ids=ids)


def test_names_are_read_and_empty_ones_left_out() -> None:
    text = HEADER + 'r,f,0,5,u," shoes ",,\nr,f,1,4,u,,,\nr,f,2,3,u,shoes,,\n'
    assert read(text) == {0: "shoes", 2: "shoes"}


def test_a_spreadsheets_byte_order_mark_is_no_trouble() -> None:
    assert read("\ufeff" + HEADER + "r,f,0,5,u,shoes,,\n") == {0: "shoes"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + "q,f,0,5,u,x,,\n", "made for run q fit f, but this is run r fit f"),
        (HEADER + "r,g,0,5,u,x,,\n", "made for run r fit g"),
        (HEADER + "r,f,7,5,u,x,,\n", "unknown cluster '7'; this fit has 0 to 2"),
        (HEADER + "r,f,one,5,u,x,,\n", "unknown cluster 'one'"),
        (HEADER + "r,f,--3,5,u,x,,\n", "unknown cluster '--3'"),
        (HEADER + "r,f,0,5,u,x,,\nr,f,0,5,u,y,,\n", "cluster 0 is called both 'x' and 'y'"),
        ("run_id,fit_id,size\nr,f,0\n", "the columns cluster_id, name are missing"),
        ("", "missing"),
    ],
)
def test_wrong_sheets_are_refused_in_one_sentence(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_what_spreadsheets_do_to_a_sheet_is_understood() -> None:
    assert read(HEADER.replace(",", ";") + "r;f;0;5;u;shoes, red;;\n;;;;;;;\n") == {0: "shoes, red"}
    assert read(HEADER + "r,f,0,5,u,x,,\n,,,,,,,\n") == {0: "x"}


def test_a_sheet_tells_its_fit() -> None:
    assert fit_of((HEADER + "r,abc,0,5,u,x,,\n").encode()) == "abc"
    assert fit_of(HEADER.encode()) is None


def test_not_text_is_refused() -> None:
    with pytest.raises(InputError, match="not a UTF-8 CSV"):
        read_names(b"\xff\xfe\x00", run_id="r", fit_id="f", cluster_ids=[0])


def test_filling_the_sheet_reads_back() -> None:
    empty = HEADER + 'r,f,0,5,"u, with comma",,,\nr,f,1,4,u,,,\n'
    assert read(fill_names(empty.encode(), {0: "a, b", 1: 'say "hi"'}).decode()) == {
        0: "a, b",
        1: 'say "hi"',
    }


def test_every_row_gets_a_label_or_says_why_not() -> None:
    manifest = pa.table(
        {
            "row_id": pa.array([0, 1, 2, 3], pa.int64()),
            "image_id": ["a", "b", "c", "d"],
            "uri": ["u"] * 4,
            "cluster_id": pa.array([0, 1, None, 0], pa.int32()),
        }
    )
    labels = label_rows(manifest, {0: "shoes"})
    assert labels.schema == LABELS
    assert labels["label"].to_pylist() == ["shoes", None, None, "shoes"]
    assert labels["label_source"].to_pylist() == ["cluster", "unnamed", "rejected", "cluster"]
