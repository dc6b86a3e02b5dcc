"""``nightmill server`` as an operator types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nightmill.cli import main
from tests.flows.conftest import Conductor
from tests.support import prefect_database
from tests.support.observatory import Observatory


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["server", *arguments])
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_start_is_idempotent_and_status_tells_where_the_ui_is(
    conductor: Conductor, capsys: pytest.CaptureFixture[str]
) -> None:
    conductor.start()
    site = str(conductor.site)
    assert _run("start", "--site", site, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    assert _run("status", "--site", site, "--json") == 0
    second = json.loads(capsys.readouterr().out)
    assert second == first
    assert second["healthy"] is True
    assert _run("status", "--site", site) == 0
    shown = capsys.readouterr().out
    assert "running and answers" in shown
    assert second["server"]["ui_url"] in shown


def test_a_site_without_a_server_has_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = str(Observatory.build(tmp_path / "site").directory)
    assert _run("stop", "--site", site) == 0
    capsys.readouterr()
    assert _run("status", "--site", site) == 3
    assert "stopped" in capsys.readouterr().out


def test_started_by_two_at_once_then_stopped(
    prefect_template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Observatory.build(tmp_path / "site").directory
    prefect_database.give(site, prefect_template)
    try:
        start = [sys.executable, "-m", "nightmill", "server", "start", "--site", str(site), "--json"]
        both = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        started, same = (json.loads(each.communicate(timeout=1200)[0]) for each in both)
        assert [each.returncode for each in both] == [0, 0]
        assert (started["server"]["state"], started["runner"]) == ("running", "running")
        pids = [(told["server"]["pid"], told["runner_pid"]) for told in (started, same)]
        assert pids[0] == pids[1], "one server and one runner"
    finally:
        assert _run("stop", "--site", str(site), "--json") == 0
    stopped = json.loads(capsys.readouterr().out)
    assert (stopped["server"]["state"], stopped["runner"]) == ("stopped", "stopped")
