"""The six stages through real Ray on generated images: conservation, schemas, purity, resume."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clusterlib.config import validate_config
from clusterlib.errors import ConfigError, InputError, StaleArtifactError, TooManyRejectsError
from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.clusters.model_files import read_hierarchy
from clusterlib.stages.embedding.embed_images import embed_images
from clusterlib.stages.labeling.apply_labels import apply_labels, name_by_majority
from clusterlib.stages.reporting.compare_runs import compare_runs
from clusterlib.stages.reporting.write_report import write_report
from clusterlib.stages.session import Session, open_session
from clusterlib.stages.summary import print_summary
from clusterlib.tables import schemas
from jobs.run_pipeline import run_pipeline
from tests.conftest import settings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

BAD_FILES = {
    "empty.png": (b"", "empty"),
    "page.jpg": (b"<html><body>404</body></html>", "not_image"),
    "noise.png": (b"\x00" * 1000, "undecodable"),
}


def make_table(folder: Path, shapes: Path) -> Path:
    """A table of all shapes, with three broken files and one that is gone in between."""
    folder.mkdir()
    lines = [["uri", "sku", "kind", "price"]]
    for number, path in enumerate(sorted(shapes.rglob("*.png"))):
        lines.append([str(path), f"sku-{number}", path.parent.name, str(number)])
    for name, (content, _) in BAD_FILES.items():
        (folder / name).write_bytes(content)
        lines.insert(40, [name, f"bad-{name}", "", "0"])
    lines.insert(60, ["gone.png", "bad-gone", "", "0"])
    table = folder / "catalog.csv"
    with table.open("w", newline="") as handle:
        csv.writer(handle).writerows(lines)
    return table


def session_for(tree: dict[str, Any]) -> Session:
    return open_session(validate_config(tree))


def test_a_fault_of_the_user_on_a_worker_is_one_sentence(
    tmp_path: Path, shapes_folder: Path
) -> None:
    session = session_for(
        settings(shapes_folder, tmp_path / "run", compute={"embed": {"device": "cuda"}})
    )
    with pytest.raises(ConfigError, match=r"compute\.embed\.device: cuda is asked for") as caught:
        run_pipeline(session)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, shapes_folder: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pipeline")
    return settings(
        make_table(folder / "in", shapes_folder),
        folder / "run",
        catalog={"id_column": "sku", "label_column": "kind"},
    )


@pytest.fixture(scope="module")
def done(ray_session: None, tree: dict[str, Any]) -> Session:
    session = session_for(tree)
    run_pipeline(session)
    return session


def fit_folder(session: Session) -> Path:
    return Path(session.run.uri) / "fits" / session.record["stages"]["fit_clusters"]["fit_id"]


def read(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


def test_every_row_is_conserved(done: Session) -> None:
    run = Path(done.run.uri)
    embedded, rejected = read(run / "embeddings"), read(run / "quarantine")
    ids = embedded["row_id"].to_pylist() + rejected["row_id"].to_pylist()
    assert sorted(ids) == list(range(124))
    assert rejected.num_rows == 4
    manifest = read(fit_folder(done) / "manifests/parquet")
    assert manifest["row_id"].to_pylist() == list(range(124))
    stages = done.record["stages"]
    assert all(
        stages[name]["conserved"] for name in ("embed_images", "assign_clusters", "write_manifests")
    )


def test_bad_files_are_quarantined_with_their_codes(done: Session) -> None:
    rows = read(Path(done.run.uri) / "quarantine").to_pylist()
    expected = {f"bad-{name}": code for name, (_, code) in BAD_FILES.items()} | {"bad-gone": "gone"}
    assert {row["image_id"]: row["code"] for row in rows} == expected
    assert done.record["stages"]["embed_images"]["quarantined_by_code"]["gone"] == 1


def test_reads_are_told_by_folder(done: Session) -> None:
    reads = done.record["reads"]
    # A row without an address is not read.
    assert sum(row["images"] for row in reads) == sum(
        row["uri"] is not None for row in read(Path(done.run.uri) / "quarantine").to_pylist()
    ) + len(read(Path(done.run.uri) / "embeddings"))
    assert all(row["seconds"] >= row["slowest_seconds"] > 0 for row in reads)
    assert sum(row["bytes"] for row in reads) > 0


def test_artifacts_have_the_pinned_schemas(done: Session) -> None:
    run, fit = Path(done.run.uri), fit_folder(done)
    extra = pa.struct([("price", pa.string())])
    dim = 1280
    expected = {
        run / "catalog": schemas.with_extra(schemas.CATALOG, extra),
        run / "embeddings": schemas.embeddings_schema(dim, "float32"),
        run / "sample": schemas.sample_schema(dim, "float32"),
        run / "quarantine": schemas.QUARANTINE,
        fit / "assignments": schemas.ASSIGNMENTS,
        fit / "manifests/parquet": schemas.with_extra(schemas.MANIFEST, extra),
    }
    for folder, schema in expected.items():
        for path in folder.glob("*.parquet"):
            assert pq.read_schema(path).remove_metadata().equals(schema), path
    assert pq.read_schema(fit / "clusters.parquet").equals(schemas.CLUSTERS)
    assert pq.read_schema(fit / "model/sweep.parquet").equals(schemas.SWEEP)
    assert pq.read_schema(fit / "model/hierarchy.parquet").equals(schemas.HIERARCHY)


def test_micro_clusters_lie_inside_clusters(done: Session) -> None:
    fit = fit_folder(done)
    hierarchy = read_hierarchy(str(fit / "model"))
    rows = read(fit / "assignments")
    clusters = hierarchy.micro_cluster_ids_M[rows["micro_id"].to_numpy()]
    np.testing.assert_array_equal(clusters, rows["cluster_id"].to_numpy())


def test_embedding_files_say_what_made_them(done: Session) -> None:
    path = next((Path(done.run.uri) / "embeddings").glob("*.parquet"))
    footer = {k.decode(): v.decode() for k, v in pq.read_schema(path).metadata.items()}
    assert footer["encoder"] == "efficientnet-lite0"
    assert (footer["dim"], footer["dtype"], footer["normalized"]) == ("1280", "float32", "true")
    assert footer["run_id"] == done.record["stages"]["embed_images"]["run_id"]


def test_clusters_are_the_kinds(done: Session) -> None:
    score = done.record["stages"]["assign_clusters"]["agreement"]
    assert score["rows"] == 120
    assert score["purity"] >= 0.95
    clusters = pq.read_table(fit_folder(done) / "clusters.parquet").to_pylist()
    assert {row["majority_label"] for row in clusters} == {"disc", "noise", "square", "stripes"}
    assert sum(row["size"] for row in clusters) == 120
    assert all(len(row["nearest"]) == 8 for row in clusters)


def test_manifests_agree_with_one_another(done: Session) -> None:
    folder = fit_folder(done) / "manifests"
    manifest = read(folder / "parquet").to_pylist()
    with_cluster = {r["image_id"]: r["cluster_id"] for r in manifest if r["rejected"] is None}
    tasks = [
        t
        for p in sorted((folder / "label_studio").glob("*.json"))
        for t in json.loads(p.read_bytes())
    ]
    assert {t["data"]["image_id"]: t["data"]["cluster_id"] for t in tasks} == with_cluster
    assert all(0 <= t["predictions"][0]["score"] <= 1 for t in tasks)
    rows = [
        row
        for path in sorted((folder / "csv").glob("*.csv"))
        for row in csv.DictReader(path.open(newline=""))
    ]
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in manifest]
    assert rows[0]["extra.price"] == manifest[0]["extra"]["price"]


def test_the_report_has_a_page_and_a_sheet_for_every_cluster(done: Session) -> None:
    report = fit_folder(done) / "report"
    html = (report / "index.html").read_text()
    sheets = sorted(path.name for path in (report / "sheets").glob("*.webp"))
    assert len(sheets) == 4
    assert all(name in html for name in sheets)
    assert len(list((report / "clusters").glob("*.html"))) == 4
    assert not (Path(done.run.uri) / "report").exists()


def test_the_numbers_of_the_report_are_those_of_the_run(done: Session) -> None:
    report = fit_folder(done) / "report"
    numbers = json.loads((report / "report.json").read_text())
    assert (numbers["rows"], numbers["embedded"], numbers["rejected"]) == (124, 120, 4)
    assert numbers["conserved"]
    assert sum(map(sum, numbers["confusion"])) == 120
    assert sum(sum(cluster["histogram"]) for cluster in numbers["clusters"]) == 120
    size = sum(p.stat().st_size for p in report.rglob("*") if p.is_file())
    assert numbers["size_mb"] == pytest.approx(size / 2**20, abs=0.2)


def test_the_map_is_in_the_shape_of_the_embedding_atlas_viewer(done: Session) -> None:
    made = pq.read_table(fit_folder(done) / "report/map.parquet")
    assert made.num_rows == 120
    assert made.schema.field("image").type == pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())]
    )
    rows = made.to_pylist()
    for place, row in enumerate(rows):
        ids = row["neighbors"]["ids"]
        assert len(ids) == len(row["neighbors"]["distances"]) == 10
        assert place not in ids
        assert row["image"]["bytes"][:4] == b"RIFF"
    same = [rows[n]["label"] == row["label"] for row in rows for n in row["neighbors"]["ids"][:1]]
    assert sum(same) > 0.9 * len(same)


def test_a_second_run_does_nothing_and_says_so(
    done: Session, tree: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path(done.run.uri).rglob("*.parquet")}
    again = session_for(tree)
    run_pipeline(again)
    out = capsys.readouterr().out
    assert "nothing to do" in out
    assert again.record["stages"]["embed_images"]["newly_done"] == 0
    assert {p: p.stat().st_mtime_ns for p in Path(done.run.uri).rglob("*.parquet")} == before


def test_names_reach_every_image(done: Session) -> None:
    sheet, accuracy = name_by_majority(done)
    apply_labels(done, names=sheet)
    labels = read(fit_folder(done) / "labels/labels").to_pylist()
    assert [row["row_id"] for row in labels] == list(range(124))
    truth = {
        row["row_id"]: row["label"] for row in read(Path(done.run.uri) / "catalog").to_pylist()
    }
    right = [row["label"] == truth[row["row_id"]] for row in labels if row["label"] is not None]
    assert len(right) == 120
    assert sum(right) / len(right) == pytest.approx(accuracy)
    assert sum(row["label_source"] == "rejected" for row in labels) == 4


def test_names_that_were_applied_come_into_the_report_once(
    done: Session, tree: dict[str, Any]
) -> None:
    place = fit_folder(done) / "report/report.json"

    def written() -> dict[int, str | None]:
        write_report(session_for(tree))
        return {c["cluster_id"]: c["name"] for c in json.loads(place.read_text())["clusters"]}

    names = written()
    clusters = pq.read_table(fit_folder(done) / "clusters.parquet").to_pylist()
    assert names == {c["cluster_id"]: c["majority_label"] for c in clusters}
    before = place.stat().st_mtime_ns
    assert written() == names
    assert place.stat().st_mtime_ns == before


def test_the_summary_says_what_was_found(done: Session, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(done)
    out = capsys.readouterr().out
    assert "124: 120 clustered, 4 rejected" in out
    assert "gone: 1" in out
    assert str(fit_folder(done) / "report/index.html") in out


def test_other_clustering_settings_make_another_fit(done: Session, tree: dict[str, Any]) -> None:
    other = session_for(tree | {"clustering": tree["clustering"] | {"k": 3}})
    run_pipeline(other)
    assert other.record["stages"]["embed_images"]["newly_done"] == 0
    assert other.record["stages"]["fit_clusters"]["k"] == 3
    assert fit_folder(other) != fit_folder(done)
    compare_runs(session_for(tree), other=str(fit_folder(other)))
    folder = fit_folder(done) / f"compare/{fit_folder(other).name}"
    found = json.loads((folder / "comparison.json").read_text())
    assert found["rows"] == 120
    assert 0 < found["moved"] < 60
    assert [pair["b"] for pair in found["pairs"]].count(None) == 1
    assert "clustering.k" in (folder / "index.html").read_text()
    with pytest.raises(InputError, match="is the configured fit itself"):
        compare_runs(session_for(tree), other=str(fit_folder(done)))


def test_other_encoder_settings_are_refused_by_name(done: Session, tree: dict[str, Any]) -> None:
    changed = session_for(tree | {"encoder": {"precision": "float32"}})
    with pytest.raises(StaleArtifactError, match=r"encoder\.precision: the run has 'bfloat16'"):
        embed_images(changed)


def test_another_source_is_refused_by_name(
    done: Session, tree: dict[str, Any], shapes_folder: Path
) -> None:
    changed = session_for(tree | {"catalog": {"source": str(shapes_folder)}})
    with pytest.raises(StaleArtifactError, match=r"catalog\.source"):
        run_pipeline(changed)


def test_another_runs_names_are_refused(done: Session, tmp_path: Path) -> None:
    sheet = (fit_folder(done) / "manifests/cluster_names.csv").read_text()
    run_id = done.record["stages"]["embed_images"]["run_id"]
    foreign = tmp_path / "names.csv"
    foreign.write_text(sheet.replace(run_id, "0" * 12))
    with pytest.raises(InputError, match="made for run 000000000000"):
        apply_labels(done, names=str(foreign))


def test_too_many_rejects_stop_the_job_after_committing(tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    for number in range(20):
        (images / f"{number}.png").write_bytes(b"")
    session = session_for(settings(images, tmp_path / "run"))
    with pytest.raises(TooManyRejectsError, match=r"20 of 20 images are unusable \(empty 20\)"):
        run_pipeline(session)
    assert session.record["stages"]["embed_images"]["quarantined"] == 20
    status = (tmp_path / "run/report/index.html").read_text()
    assert "not finished" in status
    assert "20 of 20 images are unusable" in status
    assert "the file has no bytes" in (tmp_path / "run/report/rejected.html").read_text().lower()


def test_a_half_finished_run_gets_a_report_of_what_is_there(
    tmp_path: Path, shapes_folder: Path
) -> None:
    tree = settings(shapes_folder, tmp_path / "run")
    session = session_for(tree)
    with pytest.raises(InputError, match="no catalogue yet; .* what is there so far"):
        write_report(session)
    build_catalog(session)
    embed_images(session)
    with pytest.raises(InputError, match="what is there so far"):
        write_report(session)
    status = (tmp_path / "run/report/index.html").read_text()
    assert "done: 120 embedded, 0 rejected" in status
    assert "atlas-0000.webp" in status
    run_pipeline(session)
    assert not (tmp_path / "run/report/index.html").exists()


def test_too_many_rejects_still_leave_a_report(tmp_path: Path, shapes_folder: Path) -> None:
    table = tmp_path / "t.csv"
    good = sorted(shapes_folder.rglob("*.png"))[:20]
    long = "x" * 5_000  # a path that no file system takes
    odd = ["nosuch://bucket/a.png", long, "loop.png"]
    (tmp_path / "loop.png").symlink_to("loop.png")
    table.write_text("\n".join(["uri", *map(str, good), *odd]) + "\n")
    session = session_for(settings(table, tmp_path / "run"))
    with pytest.raises(TooManyRejectsError, match=r"3 of 23 images are unusable \(bad_uri 3\)"):
        run_pipeline(session)
    assert (fit_folder(session) / "report/index.html").exists()


def test_a_store_that_fails_for_a_while_rejects_nothing(
    tmp_path: Path, shapes_folder: Path
) -> None:
    """A whole block and single rows of others answer 503 until a later pass asks again."""
    import threading
    from collections import Counter
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    files = sorted(shapes_folder.rglob("*.png"))[::10]
    failing = {*range(4), 6}
    asked: Counter[int] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = int(self.path.strip("/"))
            asked[number] += 1
            is_busy = number in failing and asked[number] <= 4  # all the tries of one read
            body = b"" if is_busy else files[number].read_bytes()
            self.send_response(503 if is_busy else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    table = tmp_path / "t.csv"
    root = f"http://127.0.0.1:{server.server_port}"
    table.write_text("\n".join(["uri", *(f"{root}/{n}" for n in range(len(files)))]) + "\n")
    session = session_for(settings(table, tmp_path / "run", compute={"embed": {"block_rows": 4}}))
    from clusterlib.stages.build_catalog import build_catalog

    build_catalog(session)
    try:
        embed_images(session)
    finally:
        server.shutdown()
    facts = session.record["stages"]["embed_images"]
    assert (facts["embedded"], facts["quarantined"]) == (len(files), 0)
    assert all(asked[number] == 5 for number in failing)
    assert read(Path(session.run.uri) / "embeddings").num_rows == len(files)


def test_other_manifest_settings_leave_no_row_twice(
    done: Session, tree: dict[str, Any], tmp_path: Path
) -> None:
    from clusterlib.stages.labeling.write_manifests import write_manifests

    for rows_per_file in (10, 50):
        changed = tree | {"manifests": {"rows_per_file": rows_per_file, "formats": ["parquet"]}}
        write_manifests(session_for(changed))
        manifest = read(fit_folder(done) / "manifests/parquet")
        assert manifest["row_id"].to_pylist() == list(range(124))
    assert not (fit_folder(done) / "manifests/csv").exists()
    write_manifests(session_for(tree))
    assert (fit_folder(done) / "manifests/csv").exists()


def test_manifests_that_were_killed_half_way_are_not_trusted(
    done: Session, tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from clusterlib.stages.labeling import write_manifests as stage

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "map_slices", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.write_manifests(session_for(tree | {"manifests": {"rows_per_file": 7}}))
    again = session_for(tree)
    stage.write_manifests(again)
    assert again.record["stages"]["write_manifests"]["rows"] == 124
    manifest = read(fit_folder(done) / "manifests/parquet")
    assert manifest["row_id"].to_pylist() == list(range(124))


def test_a_sheet_finds_its_own_fit(done: Session, tree: dict[str, Any]) -> None:
    other = session_for(tree | {"clustering": tree["clustering"] | {"k": 2}})
    run_pipeline(other)
    sheet, _ = name_by_majority(done)
    apply_labels(other, names=sheet)  # configured for k=2, named for k=4
    assert read(fit_folder(done) / "labels/labels").num_rows == 124
    assert not (fit_folder(other) / "labels").exists()


def test_a_refused_command_leaves_the_runs_configuration(
    done: Session, tree: dict[str, Any], shapes_folder: Path
) -> None:
    session_for(tree).write_config()
    before = Path(done.run.config).read_text()
    with pytest.raises(StaleArtifactError):
        session_for(tree | {"catalog": {"source": str(shapes_folder)}}).write_config()
    assert Path(done.run.config).read_text() == before


def test_the_record_drops_what_later_stages_said(done: Session, tree: dict[str, Any]) -> None:
    from clusterlib.stages.clusters.fit_clusters import fit_clusters

    run_pipeline(session_for(tree))
    session = session_for(tree)
    session.record = {"stages": dict.fromkeys(("build_catalog", "write_report"), {})}
    fit_clusters(session)
    assert sorted(session.record["stages"]) == ["build_catalog", "fit_clusters"]


def test_stages_out_of_order_say_what_to_run_first(tmp_path: Path, shapes_folder: Path) -> None:
    from clusterlib.stages.clusters.fit_clusters import fit_clusters

    session = session_for(settings(shapes_folder, tmp_path / "run"))
    with pytest.raises(InputError, match="run jobs.build_catalog first"):
        fit_clusters(session)


def test_logical_gpus_are_reserved(tmp_path: Path, shapes_folder: Path) -> None:
    tree = settings(
        shapes_folder,
        tmp_path / "run",
        compute={"embed": {"gpus_per_actor": 0.5, "actors": {"max": 2}}},
    )
    session = session_for(tree)
    from clusterlib.stages.build_catalog import build_catalog

    build_catalog(session)
    embed_images(session)
    facts = session.record["stages"]["embed_images"]
    assert facts["placement"] == "2 encoder actors on cpu with 0.5 GPU each"
    assert facts["embedded"] == 120
