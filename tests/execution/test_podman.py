"""Steps in images by podman, where it is installed and works: what differs from bubblewrap."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.execution.proc import all_in
from nightmill.execution.scratch import Scratch, token
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.model.node import NodeProfile
from nightmill.model.report import stacks
from tests.support.image import make_image
from tests.support.orders import Bench, output, shell

CONF = '[engine]\nruntime="runc"\n[containers]\ndefault_ulimits=["nofile=1024:1024","nproc=1000:1000"]\n'
"""What podman needs on hosts with both kinds of control groups, and where limits cannot be raised."""


def podman(*arguments: str | Path) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"podman does not work here: {done.stderr.strip()}")
    return done.stdout.strip()


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give an image that podman's store has."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    (tmp_path / "containers.conf").write_text(CONF)
    monkeypatch.setenv("CONTAINERS_CONF", str(tmp_path / "containers.conf"))
    make_image(tmp_path / "image")
    subprocess.run(["tar", "-C", tmp_path / "image", "-cf", tmp_path / "image.tar", "."], check=True)
    podman("import", tmp_path / "image.tar", "nightmill-test:1")
    podman("run", "--rm", "--init", "--network=none", "nightmill-test:1", "sh", "-c", "exit 0")
    digest = podman("image", "inspect", "--format", "{{.Digest}}", "nightmill-test:1")
    yield f"localhost/nightmill-test@{digest}"
    podman("rmi", "--force", "nightmill-test:1")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "a site, ünïcode")
    made.containers = Containers(runtime="podman")
    return made


def test_a_step_runs_in_its_image(bench: Bench, image: str) -> None:
    script = "cat /etc/os-release ../inputs/a.txt > out.txt && ! echo x > ../inputs/a.txt && ! echo x > /etc/new"
    step = shell("s", script, output("product", "out.txt"), image=image)
    report = bench.run_one(bench.order(step, inputs=(bench.put("a.txt", b"the sky\n", type="text"),)))
    assert report.fate is Fate.PUBLISHED, report.evidence
    assert (bench.root / "stores/backbone/products/out.txt").read_text() == "NAME=tiny\nthe sky\n"
    container = stacks(bench.entries())[report.steps[0].software].container
    assert (container["image"], container["container runtime"][:6]) == (image, "podman")


def test_the_wall_limit_asks_first(bench: Bench, image: str) -> None:
    script = "trap 'echo tidied; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    report = bench.run_one(bench.order(shell("s", script, image=image, wall_seconds=3.0)))
    assert (report.fate, report.steps[0].exit_code) == (Fate.WALL_LIMIT, 7)


def test_what_outlives_its_worker_is_found_and_ended(bench: Bench, image: str, tmp_path: Path) -> None:
    order = bench.order(shell("s", "setsid sleep 8002 & touch ready; sleep 8002", image=image))
    (tmp_path / "orders").write_text(order.model_dump_json())
    profile = NodeProfile(scratch=bench.scratch, spool=bench.spool, containers=bench.containers)
    (tmp_path / "profile").write_text(profile.model_dump_json())
    arguments: list[str | Path] = [tmp_path / "orders", "--profile", tmp_path / "profile"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "nightmill.execution.worker", *arguments], stdout=subprocess.DEVNULL
    )
    scratch = bench.scratch / token(order.attempt)
    try:
        deadline = time.monotonic() + 60
        while not (scratch / "work/ready").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        worker.kill()
        worker.wait()
    assert all_in(scratch)
    Scratch.discard(bench.scratch, order)
    assert not all_in(scratch)
    assert not scratch.exists()
    while "nightmill-test" in podman("ps", "--all", "--format", "{{.Image}}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
