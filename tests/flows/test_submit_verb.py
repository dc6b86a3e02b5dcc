"""``nightmill submit`` and ``rerun`` as an operator types them, and as they are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun

from nightmill.cli import main
from tests.flows.conftest import Conductor, until, written

NIGHTS = count(7001)
KILLED_BEFORE_THE_START = """
import os, signal, sys
from flows.hosting.conductor import PrefectConductor
from nightmill.cli import main
PrefectConductor.start = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.fixture
def campaign(conductor: Conductor) -> tuple[Path, Path, Path]:
    """Give a campaign's file over a night of its own, the notes of its steps, and what its second job waits for."""
    conductor.start()
    night = next(NIGHTS)
    beside = conductor.site.parent  # in the site they would be files of the pipeline's folder
    notes, flag = beside / f"notes{night}", beside / f"flag{night}"
    raw = f"note {notes}\nseconds 1\n"
    conductor.observatory.observe(night, [raw, f"{raw}unless {flag}\n"])
    file = conductor.site / f"s{night}.yaml"
    file.write_text(f'campaign: s{night}\npipeline: pipeline.yaml\nwhere: "night == {night}"\n')
    return file, notes, flag


def _nightmill(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def _runs(conductor: Conductor, name: str) -> list[FlowRun]:
    named = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
    found: list[FlowRun] = conductor.client.read_flow_runs(flow_run_filter=named)
    return found


def test_watched_to_its_end_then_rerun(
    conductor: Conductor, campaign: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file, notes, flag = campaign
    site = ("--site", str(conductor.site))
    code, out, _err = _nightmill(capsys, "submit", str(file), "--watch", *site)
    assert code == 1
    assert "science: 1 of 2 done, 1 failed" in out
    job = f"{file.stem}/science/exposure={file.stem[1:]}01"
    assert f"failed {job}: detect: step_failed" in out
    assert f"\nlook into one: nightmill show {job}\n" in out
    assert f"\nwhen its cause is mended: nightmill rerun {file.stem}\n" in out
    assert "no star in the field" in out
    flag.touch()
    code, out, _err = _nightmill(capsys, "rerun", file.stem, "--watch", "--json", *site)
    answer = json.loads(out)
    assert (code, answer["state"], answer["failed"]) == (0, "COMPLETED", [])
    assert len(written(notes).splitlines()) == 3, "what was published was not run again"
    code, out, _err = _nightmill(capsys, "rerun", file.stem, "--json", *site)
    assert (code, json.loads(out)) == (0, {"campaign": file.stem, "left": 0, "paused": ""})
    code, out, _err = _nightmill(capsys, "rerun", file.stem, *site)
    assert (code, out) == (0, f"campaign {file.stem}: every job is done, nothing to run again\n")

    # The link of status leads to the run that was carried out again; where that was deleted, to the one after it.
    [run] = _runs(conductor, file.stem)
    _code, out, _err = _nightmill(capsys, "status", file.stem, *site)
    assert out.endswith(f"/runs/flow-run/{run.id} Completed\n")
    assert run.state is not None
    assert run.state.message == "3 jobs done; carried out 2 times"
    conductor.client.delete_flow_run(run.id)
    _code, out, _err = _nightmill(capsys, "status", file.stem, *site)
    assert out.endswith(
        f"its flow run {run.id} was deleted in Prefect; submit or rerun the campaign, and it has another\n"
    )
    _code, out, _err = _nightmill(capsys, "status", file.stem, "--json", *site)
    assert [(each["ui_url"], each["flow_run_state"]) for each in json.loads(out)] == [("", None)]
    assert _nightmill(capsys, "submit", str(file), "--watch", *site)[0] == 0
    [other] = _runs(conductor, file.stem)
    _code, out, _err = _nightmill(capsys, "status", file.stem, *site)
    assert out.endswith(f"/runs/flow-run/{other.id} Completed\n")


def test_killed_between_the_backbone_and_prefect_it_is_taken_up_by_submitting_again(
    conductor: Conductor, campaign: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file, notes, flag = campaign
    flag.touch()
    site = ("--site", str(conductor.site))
    command = [sys.executable, "-c", KILLED_BEFORE_THE_START, "submit", str(file), *site]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert set(conductor.observatory.states(file.stem).values()) == {"planned"}
    code, out, _err = _nightmill(capsys, "submit", str(file), "--watch", *site)
    assert code == 0
    assert f"campaign {file.stem} taken up where it stood" in out
    assert set(conductor.observatory.states(file.stem).values()) == {"done"}
    assert len(written(notes).splitlines()) == 2


def test_a_campaign_goes_on_when_who_watched_it_is_killed(
    conductor: Conductor, campaign: tuple[Path, Path, Path]
) -> None:
    file, notes, flag = campaign
    flag.touch()
    command = [sys.executable, "-m", "nightmill", "submit", str(file), "--watch", "--site", str(conductor.site)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as watcher:
        until(lambda: written(notes), 60, "a step that runs")
        os.kill(watcher.pid, signal.SIGKILL)
    until(lambda: set(conductor.observatory.states(file.stem).values()) == {"done"}, 90, "every job done")
    assert len(written(notes).splitlines()) == 2
