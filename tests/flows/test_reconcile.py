"""What reconciliation costs: statements that do not grow with campaigns, slices or jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import event, insert, update

from flows.hosting import reconcile as reconciliation
from flows.hosting.api import FlowRun, PrefectApi
from nightmill.backbone.schema import CampaignRow, JobRow, PlanRow, SliceRow
from nightmill.backbone.sites import this_site
from nightmill.backbone.work.campaigns import campaign_named
from nightmill.cli.render import standing as _standing
from nightmill.model.conducting import RunState
from nightmill.operations.site import Site
from nightmill.operations.turns import Turn, take_turn
from tests.support.observatory import Observatory

NOW = datetime(2026, 1, 11, 9, 30, tzinfo=UTC)


@dataclass
class Server:
    """Stands for a Prefect server whose runs all have one state."""

    state: str
    asked: list[str] = field(default_factory=list)
    corrected: dict[str, str] = field(default_factory=dict)
    scheduled: list[str] = field(default_factory=list)

    def runs_in(self, *_: object) -> list[FlowRun]:
        return []

    def read(self, run_id: str) -> FlowRun:
        return self.read_many([run_id])[0]

    def read_many(self, run_ids: Sequence[str]) -> list[FlowRun]:
        self.asked += run_ids
        return [FlowRun(each, each, RunState(self.state), {}) for each in run_ids]

    def set_state(self, run_id: str, state: dict[str, Any]) -> None:
        self.corrected[run_id] = state["type"]

    def schedule(self, run_id: str, _message: str) -> None:
        self.scheduled.append(run_id)

    @property
    def api(self) -> PrefectApi:
        return cast("PrefectApi", self)


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    observatory = Observatory.build(tmp_path / "site", database_url)
    observatory.observe(1, ["a star\n"])
    observatory.submit("seed", 1)
    with observatory.open() as opened:
        opened.database.write(lambda session: session.execute(update(JobRow).values(state="done")))
        yield opened


def add(site: Site, name: str, *, slices: int = 1, state: str = "done") -> None:
    """Write a campaign that the conductor had in hand, with some jobs in each slice of its first stage."""
    with site.database.writing() as session:
        definition = campaign_named(session, "seed").definition
        campaign = CampaignRow(
            site_id=this_site(session),
            name=name, pipeline="survey", pipeline_version="1.0", definition=definition, sha256="0" * 64,
            submitted_at=NOW, submitted_by="ada", flow_run_id=f"run of {name}",
        )  # fmt: skip
        session.add(campaign)
        session.flush()
        for position, stage in enumerate(("science", "summary")):
            of_stage: dict[str, Any] = {"campaign_id": campaign.id, "stage": stage}
            plan = PlanRow(
                **of_stage, position=position, revision=1, sha256="0" * 64, watermark=10**6, common={}, sealed_at=NOW
            )
            session.add(plan)
            session.flush()
            for number in range(slices if stage == "science" else 1):
                row = SliceRow(**of_stage, plan_id=plan.id, number=number, flow_run_id=f"{name} {stage} {number}")
                session.add(row)
                session.flush()
                jobs = [{"unit": f"{number} {job}", "detail": {}, "state": state} for job in range(3)]
                session.execute(
                    insert(JobRow), [{**of_stage, "plan_id": plan.id, "slice_id": row.id, **job} for job in jobs]
                )


@contextmanager
def statements(site: Site) -> Iterator[list[str]]:
    """Give the statements that the block sends to the database."""
    told: list[str] = []

    def tell(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        told.append(statement)

    event.listen(site.database.engine, "before_cursor_execute", tell)
    yield told
    event.remove(site.database.engine, "before_cursor_execute", tell)


def test_a_site_is_reconciled_in_as_many_statements_however_many_campaigns_it_has(site: Site) -> None:
    add(site, "one", state="failed")
    with statements(site) as few:
        reconciliation.reconcile_site(site, Server("COMPLETED").api)
    for number in range(12):
        add(site, f"c{number}", slices=3, state="failed")
    server = Server("COMPLETED")
    with statements(site) as many:
        corrections = reconciliation.reconcile_site(site, server.api)
    assert len(many) == len(few)
    assert len(corrections) == 2 + 1 + 12 * 5, "runs that ended well, of which no job is done"
    assert set(server.corrected.values()) == {"FAILED"}


def test_runs_that_ended_well_and_ought_to_have_are_not_asked_for(site: Site) -> None:
    add(site, "done", slices=5)
    server = Server("COMPLETED")
    assert reconciliation.reconcile_site(site, server.api) == []
    assert server.asked == []


def test_the_end_of_a_slice_counts_no_jobs_while_its_campaign_is_under_way(site: Site) -> None:
    add(site, "big", slices=20, state="active")
    server = Server("RUNNING")
    with statements(site) as told:
        reconciliation._after_slice(site, server.api, "big")
    assert server.asked == ["run of big"]
    assert [statement for statement in told if "count(job" in statement or "job.stage" in statement] == []
    assert len(told) <= 8
    with statements(site) as told:
        assert take_turn(site, "big", "summary", under_way={"science"}).turn is Turn.WAITING
    assert [statement for statement in told if "FROM job" in statement] == []


@pytest.mark.parametrize(("state", "right"), [("done", "COMPLETED"), ("failed", None)])
def test_the_last_slice_completes_a_campaign_that_had_ended(site: Site, state: str, right: str | None) -> None:
    add(site, "late", state=state)
    server = Server("FAILED")
    reconciliation._after_slice(site, server.api, "late")
    assert server.corrected.get("run of late") == right
    assert server.scheduled == []


def test_status_takes_as_many_statements_however_many_campaigns_there_are(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with statements(site) as few:
        _standing.show_status(site, None)
    capsys.readouterr()
    add(site, "old", state="failed")
    add(site, "stuck", state="ready")
    for number in range(_standing.LATEST + 2):
        add(site, f"c{number}")
    with statements(site) as many:
        _standing.show_status(site, None)
    told = capsys.readouterr()
    assert len(many) <= len(few) + 1
    assert "stuck (survey" in told.out, "jobs are left of it"
    assert ("c2 (survey" in told.out, "c1 (survey" in told.out, "old (survey" in told.out) == (True, False, False)
    assert "4 more campaigns, all of them at their end: nightmill status --all" in told.err
    _standing.show_status(site, None, everything=True)
    told = capsys.readouterr()
    assert told.out.count(" (survey 1.0)") == _standing.LATEST + 5
    assert "more campaigns" not in told.err


def test_who_watches_drains_seldom(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    add(site, "stuck", state="ready")
    drains: list[Site] = []
    looks = iter(range(10))

    def look(_seconds: float) -> None:
        if next(looks) == 5:
            site.database.write(lambda session: session.execute(update(JobRow).values(state="done")))

    monkeypatch.setattr(_standing, "drain_first", lambda site, _tell: drains.append(site))
    monkeypatch.setattr(time, "sleep", look)
    _standing.show_status(site, "stuck", watch=True)
    assert next(looks) == 6
    assert len(drains) == 1
