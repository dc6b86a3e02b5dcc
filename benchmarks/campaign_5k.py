"""A campaign of five thousand trivial jobs under a real Prefect server: a task run each, and again in chunks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from sqlalchemy import func, select

from benchmarks.figures import Result, figure, machine, now
from benchmarks.job_overhead import CONTENT
from benchmarks.processes import bare_together
from benchmarks.sites import COPY_STAGE, new_site, register_raw, store_folder, working_folder, write_campaign
from flows.hosting import server, service
from flows.hosting.access import read_secret
from flows.hosting.daemon import clean_environment
from nightmill.backbone.schema import AttemptRow, JobRow
from nightmill.backbone.work.campaigns import campaign_named, progress
from nightmill.backbone.work.slices import slices
from nightmill.model.states import JobState
from nightmill.operations.site import Site

JOBS: Final = 5_000
SLICES: Final = 2
"""At a time, each a process with one thread: what two cores carry."""
REPOSITORY: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class _Ran:
    """How a campaign ran."""

    seconds: float
    first_job_seconds: float
    published: int
    attempts: int
    task_runs_recorded: int
    files_in_store: int


def measure(*, size: int = JOBS) -> Result:
    """Measure on a site of its own, with its own server and warm runner."""
    with working_folder() as folder, new_site(folder / "site") as site:
        register_raw(site, size, content=CONTENT)
        with _conducted(site) as api_url:
            warm = _run(site, folder, api_url, "warm-up", {"jobs_per_task": 1}, where="exposure <= 10")
            each = _run(site, folder, api_url, "task-a-job", {"jobs_per_task": 1})
            chunks = _run(site, folder, api_url, "chunks", {"jobs_per_task": 0})
            bare_tasks = _bare_task_runs(site, size)
        bare_jobs = bare_together(folder / "bare", site, size, SLICES).wall_seconds
    return Result(
        **figure([each.seconds], [bare_tasks]).model_dump(),
        name="campaign_5k",
        unit="s",
        compared=(
            "a campaign of trivial jobs from `nightmill submit --watch` to its end, a Prefect task run for each job;"
            " floor: as many task runs that do nothing, recorded by the same server. In chunks the floor is the bare"
            " loop of job_overhead, in as many processes"
        ),
        aim="every task run recorded, and 5 s from submit to the first job",
        size=f"{size:,} jobs, {SLICES} slices at a time",
        also={"in chunks": figure([chunks.seconds], [bare_jobs])},
        extra={
            "submit_to_first_job_seconds": round(each.first_job_seconds, 2),
            "submit_to_first_job_seconds (10 jobs)": round(warm.first_job_seconds, 2),
            "jobs_per_second": round(size / each.seconds, 1),
            "jobs_per_second (chunks)": round(size / chunks.seconds, 1),
            "floor_processes": SLICES,
        },
        counts={
            "jobs": size,
            "published": each.published,
            "task_runs_submitted": each.attempts,
            "task_runs_recorded": each.task_runs_recorded,
            "files_in_store": each.files_in_store,
            "published_in_chunks": chunks.published,
            "task_runs_recorded_in_chunks": chunks.task_runs_recorded,
            "files_in_store_in_chunks": chunks.files_in_store,
        },
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks campaign_5k --json",
    )


@contextmanager
def _conducted(site: Site) -> Iterator[str]:
    """Run the site's server and warm runner; give the URL of the API."""
    config = site.config.server.model_copy(update={"slices": SLICES})
    try:
        yield service.start(site.config.directory, config).server.api_url
    finally:
        service.stop(site.config.directory)


def _run(site: Site, folder: Path, api_url: str, name: str, execution: dict[str, int], *, where: str = "") -> _Ran:
    """Submit a campaign as an operator does, and wait for its end."""
    path = write_campaign(folder, name, COPY_STAGE, {"threads": 1, **execution}, where=where)
    submitted = datetime.now(UTC)
    start = time.perf_counter()
    argv = [sys.executable, "-c", "from nightmill.cli import main; main()", "submit", str(path), "--watch", "--json"]
    subprocess.run([*argv, "--site", str(site.config.directory)], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - start
    with site.database.reading() as session:
        campaign_id = campaign_named(session, name).id
        [stage] = progress(session, campaign_id)
        of_campaign = select(func.min(AttemptRow.began_at), func.count()).join(JobRow, JobRow.id == AttemptRow.job_id)
        first, attempts = session.execute(of_campaign.where(JobRow.campaign_id == campaign_id)).one()
        flow_run_ids = [each.flow_run_id for each in slices(session, campaign_id)]
    return _Ran(
        seconds=seconds,
        first_job_seconds=(first - submitted).total_seconds(),
        published=stage.counts.get(JobState.DONE, 0),
        attempts=attempts,
        task_runs_recorded=_recorded(site, api_url, flow_run_ids),
        files_in_store=sum(path.is_file() for path in (store_folder(site) / name).rglob("*")),
    )


def _recorded(site: Site, api_url: str, flow_run_ids: list[str | None]) -> int:
    """Count the task runs that the server has of these flow runs, and that ended well."""
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    body = {"flow_runs": {"id": {"any_": flow_run_ids}}, "task_runs": completed}
    user, _, password = read_secret(service.folder_of(site.config.directory)).partition(":")
    response = httpx.post(f"{api_url}/task_runs/count", json=body, auth=(user, password), timeout=60)
    response.raise_for_status()
    return int(response.json())


def _bare_task_runs(site: Site, count: int) -> float:
    """Have the server record task runs that do nothing, from as many processes as there are slices; return seconds."""
    environment = clean_environment(server.api_environment(service.folder_of(site.config.directory)))
    argv = [sys.executable, "-m", "benchmarks.campaign_5k", str(count // SLICES)]
    running = [subprocess.Popen(argv, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE) for _ in range(SLICES)]
    answers = [process.communicate()[0] for process in running]
    return max(float(json.loads(answer)) for answer in answers)


def main(count: int) -> None:
    """Run task runs that do nothing, and print the seconds that it took until all were recorded."""
    from uuid import UUID

    from prefect import flow, get_client, task
    from prefect.cache_policies import NO_CACHE
    from prefect.runtime import flow_run

    from tasks.backpressure import Backpressure

    @task(cache_policy=NO_CACHE, persist_result=False)
    def nothing() -> None:
        """Do nothing."""

    @flow(name="nothing", persist_result=False)
    def nothings() -> float:
        """Do nothing many times."""
        with get_client(sync_client=True) as client:
            gate = Backpressure(client, UUID(flow_run.get_id()))
            start = time.perf_counter()
            for _ in range(count):
                gate.enter()
                nothing()
            if lost := gate.drain():
                raise AssertionError(f"{lost} of {count} task runs were not recorded")
            return time.perf_counter() - start

    print(json.dumps(nothings()))


if __name__ == "__main__":
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    main(int(sys.argv[1]))
