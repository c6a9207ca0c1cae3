"""`ray job submit` against a real head with token authentication on."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, free_port, settings, wait_for

RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A head started with `ray start --head`: its dashboard address, and a client's environment."""
    dashboard = free_port()
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TMPDIR": "/tmp/" + secrets.token_hex(4),
        # The job's `python` is the one that runs these tests.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environment.pop("RAY_ADDRESS", None)
    log = (tmp_path_factory.mktemp("head") / "log").open("w")
    process = subprocess.Popen(
        [
            RAY,
            "start",
            "--head",
            "--block",
            f"--port={free_port()}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={free_port()}",
            f"--ray-client-server-port={free_port()}",
            "--num-cpus=2",
            f"--temp-dir={environment['RAY_TMPDIR']}",
            "--object-store-memory=300000000",
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{dashboard}"

    def answers() -> bool:
        assert process.poll() is None, Path(log.name).read_text()
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2)
        except urllib.error.HTTPError as error:
            return error.code in (401, 403)  # up, and asking for the token
        except OSError:
            return False
        return True

    wait_for(answers, seconds=90, what="the head's dashboard")
    yield address, environment
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    log.close()


def submit(head: tuple[str, dict[str, str]], config: Path, *overrides: str) -> tuple[int, str]:
    address, environment = head
    done = subprocess.run(
        [RAY, "job", "submit", f"--address={address}", "--working-dir=.", "--"]
        + ["python", "-m", "jobs.run_pipeline", "--config", str(config), *overrides],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.process
def test_a_submitted_job_succeeds(
    head: tuple[str, dict[str, str]], tmp_path: Path, shapes_folder: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings(shapes_folder, tmp_path / "run")))
    code, out = submit(head, config)
    assert code == 0, out
    assert "succeeded" in out
    assert "120: 120 clustered, 0 rejected" in out
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["exit_code"] == 0
    assert record["stages"]["write_manifests"]["rows"] == 120


@pytest.mark.process
def test_a_failing_job_fails(head: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings(tmp_path / "nowhere", tmp_path / "run")))
    code, out = submit(head, config)
    assert code == 1, out
    assert "no such folder" in out
    # Ray's own exit code is 0 or 1; the record keeps ours.
    assert json.loads((tmp_path / "run/run.json").read_text())["exit_code"] == 3


@pytest.mark.process
def test_without_the_token_nothing_is_answered(head: tuple[str, dict[str, str]]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{head[0]}/api/jobs/", timeout=10)
