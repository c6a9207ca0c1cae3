"""The table of compared encoders, and its curves."""

from __future__ import annotations

from clusterlib.report.curves import curves_svg
from clusterlib.report.encoders import KRow, Trial, names_of, table_of, table_text

DONE = Trial(
    "hf:/models/a", dim=24, rows=60, k=4, silhouette=0.51, stability=0.9,
    images_per_second=1234.5, sweep=[KRow(2, 0.4, None), KRow(4, 0.51, 0.9)],
)  # fmt: skip


def test_label_columns_come_with_labels_only() -> None:
    heads, rows = table_of([DONE])
    assert "AMI" not in heads
    assert dict(zip(heads, rows[0], strict=True))["images/s"] == "1,234"
    assert "AMI" in table_of([DONE, Trial("b", nmi=0.5, ari=0.4, ami=0.3)])[0]


def test_a_failed_encoder_has_a_row_and_its_reason() -> None:
    lines = table_text([DONE, Trial("timm:x", problem="no weights")])
    assert lines[2].split() == ["timm:x", *["–"] * 8]
    assert lines[3] == "timm:x: failed: no weights"
    assert len({len(line) for line in lines[:3]}) == 1  # columns are aligned


def test_names_are_short_and_differ() -> None:
    paths = [f"hf:/very/long/{'x' * 40}/{side}/model" for side in "ab"]
    file = f"torchvision:resnet18:/{'x' * 40}/own.safetensors"
    assert names_of([Trial(file)]) == ["torchvision:resnet18:…/own.safetensors"]
    assert names_of([Trial(path) for path in paths]) == ["hf:…/model (1)", "hf:…/model (2)"]


def test_curves_survive_names_that_look_like_markup_or_formulas() -> None:
    svg = curves_svg(
        [("_<b>$x^2", [2, 4], [0.1, None], 2), ("b", [2, 4], [0.3, 0.2], 4)],
        title="Silhouette",
        y_label="silhouette",
    )
    assert "_&lt;b&gt;$x^2" in svg
    assert "<b>" not in svg
