"""Names come back, and only those of this run."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from clusterlib.errors import InputError
from clusterlib.labels.answers import Answers, fill_names, fit_of, read_answers
from clusterlib.labels.plan import make_plan
from clusterlib.labels.propagate import Beliefs, label_rows
from clusterlib.tables.schemas import LABELS

HEADER = "run_id,fit_id,cluster_id,size,exemplar_uris,name,purity,notes\n"


def read(text: str, *, ids: tuple[int, ...] = (0, 1, 2)) -> dict[int, str]:
    groups = [str(n) for n in ids]
    answers = read_answers(text.encode(), run_id="r", fit_id="f", groups=groups)
    return {int(group): name for group, name in answers.names.items()}


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
        read_answers(b"\xff\xfe\x00", run_id="r", fit_id="f", groups=["0"])


def test_filling_the_sheet_reads_back() -> None:
    empty = HEADER + 'r,f,0,5,"u, with comma",,,\nr,f,1,4,u,,,\n'
    assert read(fill_names(empty.encode(), {0: "a, b", 1: 'say "hi"'}).decode()) == {
        0: "a, b",
        1: 'say "hi"',
    }


GROUPS = ["0", "1", "2", "0/5"]


def returned(tasks: list[dict[str, object]]) -> Answers:
    return read_answers(json.dumps(tasks).encode(), run_id="r", fit_id="f", groups=GROUPS)


def task(data: dict[str, object], **said: tuple[str, list[str]]) -> dict[str, object]:
    result = [
        {"from_name": control, "type": kind, "value": {"text" if kind == "textarea" else kind: v}}
        for control, (kind, v) in said.items()
    ]
    shown = {"run_id": "r", "fit_id": "f", **data}
    return {"id": 1, "data": shown, "annotations": [{"result": result, "was_cancelled": False}]}


def test_exports_of_label_studio_are_read() -> None:
    answers = returned(
        [
            task({"cluster_id": "1"}, name=("textarea", ["red"]), purity=("choices", ["mixed"])),
            task({"cluster_id": 1, "image_id": "a"}, label=("textarea", ["blue"])),
            task({"cluster_id": 1, "image_id": "b"}, cluster=("choices", ["cluster_002"])),
            task({"cluster_id": 1, "image_id": "c"}),
            {"run_id": "r", "fit_id": "f", "cluster_id": "0/5", "name": "green", "purity": "pure"},
        ]
    )
    assert answers.names == {"1": "red", "0/5": "green"}
    assert answers.purities == {"1": "mixed", "0/5": "pure"}
    assert (answers.labels, answers.moves) == ({"a": "blue"}, {"b": 2})


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task({"cluster_id": "9"}, name=("textarea", ["x"]))], "unknown cluster '9'"),
        ([task({"image_id": "a"}, cluster=("choices", ["cluster_009"]))], "into unknown cluster"),
        ([task({"cluster_id": "1"}, purity=("choices", ["clean"]))], "purity 'clean'"),
        ([task({"run_id": "q", "cluster_id": "1"}, name=("textarea", ["x"]))], "made for run q"),
        ([{"cluster_id": "1", "name": "x"}], "columns run_id, fit_id are missing"),
        (
            [
                task({"image_id": "a"}, label=("textarea", ["x"])),
                task({"image_id": "a"}, label=("textarea", ["y"])),
            ],
            "image a is called both 'x' and 'y'",
        ),
    ],
)
def test_wrong_exports_are_refused_in_one_sentence(
    tasks: list[dict[str, object]], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        returned(tasks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"[1, 2]", b"[{]", b'{"a": 1}'])
def test_other_json_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="not a JSON file|not an export"):
        read_answers(data, run_id="r", fit_id="f", groups=GROUPS)


def test_image_ids_survive_our_own_csv() -> None:
    text = "run_id,fit_id,image_id,uri,cluster,label\nr,f,'=a,u,,x\nr,f,'b,u,,y\n"
    answers = read_answers(text.encode(), run_id="r", fit_id="f", groups=GROUPS)
    assert answers.labels == {"=a": "x", "'b": "y"}


def leaves(*ids: int) -> np.ndarray:
    return np.array(ids, dtype=np.int32)


def test_a_branch_overrules_its_cluster() -> None:
    branches = {"0": leaves(0, 1, 2), "0/5": leaves(1, 2), "0/2": leaves(2), "1": leaves(3)}
    plan = make_plan(
        {"0": "shoes", "0/5": "boots"},
        {"0": "pure", "0/2": "junk", "1": "mixed"},
        branches=branches,
        leaves=5,
    )
    assert [plan.label(m) for m in range(5)] == ["shoes", "boots", None, None, None]
    states = ["cluster", "cluster", "junk", "mixed", "unnamed", "unnamed"]
    assert [plan.state(m) for m in (0, 1, 2, 3, 4, -1)] == states


def test_every_row_gets_a_label_or_says_why_not() -> None:
    manifest = pa.table(
        {
            "row_id": pa.array(range(6), pa.int64()),
            "image_id": list("abcdef"),
            "uri": ["u"] * 6,
            "cluster_id": pa.array([0, 1, None, 0, 2, 0], pa.int32()),
            "silhouette": pa.array([0.5, 0.0, None, -1.0, 0.0, 0.0], pa.float32()),
        }
    )
    plan = make_plan(
        {"0": "shoes"},
        {"2": "mixed"},
        branches={"0": leaves(0), "2": leaves(2)},
        leaves=3,
    )
    micro = leaves(0, 1, -1, 0, 2, 0)
    images = {"d": "hats"}
    rows = label_rows(manifest, micro, plan, images=images, beliefs=None, everywhere=False)
    assert rows.schema == LABELS
    assert rows["label"].to_pylist() == ["shoes", None, None, "hats", None, "shoes"]
    sources = ["cluster", "unnamed", "rejected", "image", "mixed", "cluster"]
    assert rows["label_source"].to_pylist() == sources
    assert rows["confidence"].to_pylist() == [0.75, None, None, 1.0, None, 0.5]
    p_NC = np.array([[0.25, 0.75]] * 6, dtype=np.float32)
    p_NC[5] = np.nan  # no embedding was read
    beliefs = Beliefs(("hats", "shoes"), p_NC)
    rows = label_rows(manifest, micro, plan, images=images, beliefs=beliefs, everywhere=False)
    assert rows["label_source"].to_pylist()[4] == "model"
    assert rows["confidence"].to_pylist() == [0.75, None, None, 1.0, 0.75, 0.5]
    rows = label_rows(manifest, micro, plan, images=images, beliefs=beliefs, everywhere=True)
    assert rows["label_source"].to_pylist()[1] == "model"
