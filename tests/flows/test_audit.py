"""What an audit asks Prefect, and the flow that applies a site's retention; neither needs a server here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import pytest
from prefect.client.schemas.objects import State
from sqlalchemy import update

from flows import retain
from flows.hosting import audit
from flows.hosting.api import FlowRun
from flows.hosting.daemon import Daemon, DaemonState
from nightmill.backbone.schema import CampaignRow, SliceRow
from nightmill.backbone.work import leases
from nightmill.errors import ServerAway
from nightmill.execution.journal import RECORDED
from nightmill.execution.owner import this_process
from nightmill.model.conducting import RunState
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from tests.support.backbone import issue
from tests.support.orders import Bench, output, shell

BEGAN = datetime.now(UTC) - timedelta(minutes=1)


class StandIn:
    """A server that has two flow runs."""

    def __init__(self, *runs: FlowRun) -> None:
        self.runs = runs

    def of_site(self, _site: Path) -> Self:
        return self

    def in_a_hurry(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def runs_in(self, _states: Sequence[str], _deployments: Sequence[str]) -> list[FlowRun]:
        return [FlowRun("other", "other", RunState("RUNNING", at=BEGAN), {"campaign": "of-another-site"})]

    def read_many(self, ids: Sequence[str]) -> list[FlowRun]:
        return [run for run in self.runs if run.id in ids]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with make_site(tmp_path / "site") as site:
        yield site


def test_a_flow_run_whose_process_is_dead_is_named_and_left(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Bench(tmp_path / "bench").order(shell("detect", "true", output("catalog", "cat.txt")))
    gone = this_process().model_copy(update={"pid": 2**22 + 1})
    with site.database.writing() as session:
        now = datetime.now(UTC)
        issue(session, order, lease_id=leases.take(session, gone, flow_run_id="of-slice", now=now))
        session.execute(update(SliceRow).values(flow_run_id="of-slice"))
        definition = {"pipeline": {"stages": [{"name": "science"}]}}
        session.execute(update(CampaignRow).values(flow_run_id="of-campaign", definition=definition))
    runs = [
        FlowRun("of-slice", "night1/science/1", RunState("RUNNING", at=BEGAN), {}),
        FlowRun("of-campaign", "night1", RunState("COMPLETED", at=BEGAN), {}),
    ]
    monkeypatch.setattr(audit, "PrefectApi", StandIn(*runs))
    monkeypatch.setattr(Daemon, "state", lambda _self: DaemonState.RUNNING)
    found = {each.where: each for each in audit.find(site)}
    assert list(found) == ["flow run night1/science/1 (of-slice)", "flow run night1 (of-campaign)"]
    told = [each.what for each in found.values()]
    assert told[0].startswith(f"Prefect says RUNNING, and it ought to be CRASHED: its process ({gone.pid} on ")
    assert told[1] == "Prefect says COMPLETED, and it ought to be FAILED: 1 of 1 job not done, as the backbone says"
    assert {each.since for each in found.values()} == {BEGAN}


def test_a_server_that_does_not_run_is_told(site: Site) -> None:
    with pytest.raises(ServerAway, match="its server is stopped"):
        list(audit.find(site))


def test_the_flow_applies_the_retention_of_its_own_site(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = site.config.spool / RECORDED
    folder.mkdir()
    (folder / "old.jsonl").write_text("")
    for name, days in (("old", 40), ("new", 2)):
        (folder / f"{name}.jsonl").write_text("")
        then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        os.utime(folder / f"{name}.jsonl", (then, then))
    refused = _carried_out(site.config.directory, monkeypatch, own="elsewhere")
    assert refused.name == "Refused"
    ended = _carried_out(site.config.directory, monkeypatch, own=str(site.config.directory))
    assert (ended.type, ended.message) == (
        "COMPLETED",
        "2 journals compressed, 0 removed, 1 kept for longer: no backup of the database was verified: see 'nightmill"
        " backup'; 0 logs removed",
    )
    assert sorted(path.name for path in folder.glob("*.gz")) == ["new.jsonl.gz", "old.jsonl.gz"]


def _carried_out(folder: Path, monkeypatch: pytest.MonkeyPatch, *, own: str) -> State[None]:
    monkeypatch.setenv("NIGHTMILL_SITE", own)
    state = retain.retain.fn(str(folder))
    assert isinstance(state, State)
    return state
