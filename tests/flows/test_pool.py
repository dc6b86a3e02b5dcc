"""A campaign that runners on two hosts conduct, and what becomes of it where one of the hosts is lost."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from flows.hosting.api import PrefectApi
from flows.hosting.children import ChildRecord
from flows.hosting.conductor import PrefectConductor
from flows.hosting.runners import daemons
from nightmill.backbone.schema import AttemptRow, LeaseRow
from nightmill.model.states import AttemptState
from tests.flows.conftest import conductor_at, until
from tests.support.image import needs_bubblewrap
from tests.support.observatory import Observatory
from tests.support.pool import SECOND, Pool, two_runners
from tests.support.postgres import PostgresServer

HERE = socket.gethostname()


@pytest.fixture(scope="module")
def pool(postgres: PostgresServer, prefect_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    database = postgres.create()
    site = tmp_path_factory.mktemp("pool") / "site"
    Observatory.build(site, postgres.url(database))
    with two_runners(site, prefect_template, "slices=1") as served:
        yield served
    postgres.drop(database)


def _in_hand(pool: Pool) -> dict[str, str]:
    """Return the hosts that carry out slices now, with the names of the slices."""
    records = [
        ChildRecord.model_validate_json(file.read_text())
        for runner in daemons(pool.site)
        for file in (runner.folder / "runs").glob("*.json")
    ]
    return {each.process.host: each.flow_run_name for each in records if each.process and each.queue == "slices"}


def _crashed(pool: Pool) -> set[str]:
    with PrefectApi.of_site(pool.site) as api:
        return {run.name for run in api.runs_in(["CRASHED"], ["slice"])}


def _at_work(observatory: Observatory) -> set[str]:
    """Return the hosts whose slices have issued jobs that are not ended."""
    with observatory.open() as site, site.database.reading() as session:
        active = (
            select(LeaseRow.host)
            .join(AttemptRow)
            .where(AttemptRow.state.in_([each for each in AttemptState if not each.ended]))
        )
        return set(session.scalars(active))


def _submit(observatory: Observatory, night: int, texts: list[str]) -> str:
    observatory.observe(night, texts)
    settings = ("execution.jobs_per_slice=2", "execution.jobs_per_task=1")
    observatory.submit(f"night{night}", night, *settings)
    with observatory.open() as site:
        return PrefectConductor(site).start(f"night{night}").flow_run_id


def test_runners_of_two_hosts_share_the_slices_of_a_campaign(pool: Pool, tmp_path: Path) -> None:
    observatory, flag = Observatory(pool.site), tmp_path / "flag"
    run = _submit(observatory, 1, [f"until {flag}\n"] * 6)
    taken = until(lambda: found if len(found := _in_hand(pool)) == 2 else None, 60, "a slice on each host")
    assert taken.keys() == {HERE, SECOND}
    assert set(taken.values()) < {f"night1 science #{number}" for number in range(3)}
    told = pool.runners()
    assert {each["host"]: (each["queues"], each["healthy"]) for each in told} == {
        HERE: ({"campaigns": 16, "slices": 1}, True),
        SECOND: ({"slices": 1}, True),
    }
    assert all(each["heard_at"] for each in told)
    assert (
        f"runner of site on {SECOND} (slices=1): running, flow runs: 1, heard of at"
        in pool.on("", "server", "status").stdout
    )
    flag.touch()
    until(lambda: conductor_at(pool.site).state(run).ended, 90, "the end of the campaign")
    assert conductor_at(pool.site).state(run).type == "COMPLETED"
    jobs = observatory.jobs("night1")
    assert {(str(job.state), job.attempts) for job in jobs.values()} == {("done", 1)}
    assert len(jobs) == 7
    with observatory.open() as site, site.database.reading() as session:
        assert {HERE, SECOND} <= set(session.scalars(select(LeaseRow.host)))


def test_what_a_lost_host_had_in_hand_is_carried_out_by_another(pool: Pool, tmp_path: Path) -> None:
    observatory, flag = Observatory(pool.site), tmp_path / "flag"
    run = _submit(observatory, 2, [f"until {flag}\n"] * 4)
    until(lambda: {HERE, SECOND} == _at_work(observatory), 60, "jobs on each host")
    pool.kill(SECOND)
    flag.touch()
    lost = pool.on("", "record", "--host-lost", SECOND, "--why", "killed by a test")
    assert "lost" in lost.stdout, lost.stdout + lost.stderr
    assert pool.on("", "status", "night2").returncode in (0, 1)  # it marks its slice as crashed
    until(lambda: conductor_at(pool.site).state(run).ended, 90, "the end of the campaign")
    assert "of 4 jobs not done" in conductor_at(pool.site).state(run).message
    with observatory.open() as site:
        PrefectConductor(site).start("night2")
    until(lambda: conductor_at(pool.site).state(run).type == "COMPLETED", 90, "its end on the other host")
    assert set(observatory.states("night2").values()) == {"done"}
    assert pool.start(SECOND, "slices=1")["state"] == "running"
    until(lambda: not any(each["flow_runs"] for each in pool.runners()), 30, "the end of what the one before left")


def test_a_container_that_is_started_anew_ends_what_the_one_before_left(
    pool: Pool, postgres: PostgresServer, tmp_path: Path
) -> None:
    needs_bubblewrap()
    bound = [tmp_path, postgres.socket_directory]
    observatory, flag, log = Observatory(pool.site), tmp_path / "flag", tmp_path / "log"
    ready = b"Serving work pool 'nightmill': {'slices': 1}"
    with pool.container("pod-0", log, "--queue", "slices=1", bound=bound):
        until(lambda: ready in log.read_bytes(), 60, "the container")
        _submit(observatory, 3, [f"until {flag}\n"] * 6)
        until(lambda: _at_work(observatory) == {HERE, SECOND, "pod-0"}, 60, "jobs on each of three")
    [left] = [name for host, name in _in_hand(pool).items() if host == "pod-0"]
    with pool.container("pod-0", log, "--queue", "slices=1", bound=bound):
        until(lambda: log.read_bytes().count(ready) == 2, 60, "the container that follows")
        flag.touch()
        until(lambda: left in _crashed(pool), 60, "it to report what the one before had in hand")
    assert f"Found flow run '{left}' of a runner before" in log.read_text()
    acts = pool.on("", "acts", "--json").stdout
    assert "a runner was started that is alone under the name of its host" in acts


def test_the_server_of_another_host_that_listens_to_that_alone_is_told(pool: Pool) -> None:
    done = pool.on("node3", "runner", "start")
    assert done.returncode == 3
    assert f"runs on host '{HERE}', and listens to it alone" in done.stderr
    assert "set server.host to an address that others can reach" in " ".join(done.stderr.split())
    assert json.loads(pool.on("node3", "runner", "status", "--json").stdout)["state"] == "stopped", (
        "those of others are not its own"
    )
