"""A command that is handed over is what it would be in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.warm import commands

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
INSTALLED = Path(sys.executable).parent


@pytest.fixture(scope="module")
def warm() -> Iterator[Path]:
    with commands() as folder:
        yield folder


def run(programs: Path, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8", **variables}
    return subprocess.run(
        ["nightmill", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        umask=0o027,
    )


@pytest.fixture(scope="module")
def site(warm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("warm") / "site"
    assert run(warm, folder.parent, "init", "site").returncode == 0
    return folder


@pytest.mark.parametrize(
    "arguments", [["find"], ["server", "status"], ["plan", "lacking.yaml"]], ids=lambda each: each[0]
)
def test_command_says_and_ends_as_the_installed_program(warm: Path, site: Path, arguments: list[str]) -> None:
    there, here = (run(programs, site, *arguments) for programs in (INSTALLED, warm))
    assert (here.returncode, here.stdout, here.stderr) == (there.returncode, there.stdout, there.stderr)


def test_command_has_the_variables_of_its_caller_and_no_others(warm: Path, site: Path) -> None:
    assert run(warm, site.parent, "find", NIGHTMILL_SITE=str(site)).returncode == 0
    assert run(warm, site.parent, "find").returncode == 2


def test_command_has_the_umask_of_its_caller(warm: Path, site: Path) -> None:
    os.mkfifo(
        site / "campaign.yaml"
    )  # nobody writes into it: who reads it waits, before the site sets an umask of its own
    reads = subprocess.Popen(
        [warm / "nightmill", "plan", "campaign.yaml", "--explain", "where"],
        cwd=site,
        env={"HOME": str(site)},
        umask=0o027,
    )
    try:
        status = Path(f"/proc/{_command_in(site, reads).pid}/status").read_text()
        assert "Umask:\t0027\n" in status
    finally:
        reads.kill()
        reads.wait()


def test_installed_program_takes_over_where_imports_change(warm: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('another interpreter')")
    assert "another interpreter" in run(warm, tmp_path, "--version", PYTHONPATH=str(tmp_path)).stdout
    assert run(warm, tmp_path, "--version", PYTHONPATH="").stdout.startswith("nightmill ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signal_reaches_the_command(warm: Path, site: Path, number: signal.Signals) -> None:
    counts = subprocess.Popen(
        [warm / "nightmill", "sql", ENDLESS],
        cwd=site,
        env={"HOME": str(site)},
        stdout=subprocess.DEVNULL,
    )
    try:
        command = _command_in(site, counts)
        counts.send_signal(number)
        assert counts.wait() == -number
        psutil.wait_procs([command])
        assert not command.is_running()
    finally:
        counts.kill()


def _command_in(folder: Path, client: subprocess.Popen[bytes]) -> psutil.Process:
    """Wait until a fork works in this folder."""
    while client.poll() is None:
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(folder) and "tests.support.warm" in process.cmdline():
                    return process
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        time.sleep(0.05)
    raise AssertionError(f"it ended by itself with {client.returncode}")
