"""What an operator sees and does in the browser, in a real one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Request

from flows.hosting import server, service
from flows.hosting.conductor import PrefectConductor
from tests.flows.browser import BrowserUnavailable, Ui, open_ui
from tests.flows.conftest import Conductor, conductor_at, until, written


@pytest.fixture(scope="module")
def ui(conductor: Conductor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """Give the UI of the conducted site in a headless browser."""
    profile = tmp_path_factory.mktemp("browser")
    try:
        conductor.start()
        with open_ui(server.link(service.folder_of(conductor.site)), profile) as opened:
            yield opened
    except BrowserUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("night", "jobs_per_task"), [(71, 1), (72, 10)], ids=["a task run a job", "chunks"])
def test_an_operator_finds_a_failed_job_in_the_browser_and_retries_it(
    ui: Ui, conductor: Conductor, tmp_path: Path, night: int, jobs_per_task: int
) -> None:
    notes, flag = tmp_path / "notes", tmp_path / "the <good> *copy*"
    name, failed = f"browsed{night}", f"science/exposure={100 * night + 1}"
    reason = f"detect: step_failed: step 'detect' exited with code 3: no star in the field, says {flag}"
    conductor.observatory.observe(night, [f"note {notes}\n{text}\n" for text in ("", f"unless {flag}", "")])
    conductor.observatory.submit(name, night, f"execution.jobs_per_task={jobs_per_task}", "execution.threads=1")
    with conductor.observatory.open() as site:
        run = PrefectConductor(site).start(name).flow_run_id
    until(lambda: conductor_at(conductor.site).state(run).ended, 90, "the end of the campaign")

    # The campaign and its slice by name, on the page of all runs and on the campaign's own.
    ui.go("/runs")
    ui.sees(f"{name} science #0")
    ui.follow(name)
    ui.is_in("Failed")
    ui.tab("Artifacts")
    ui.sees(f"Stages of campaign {name}")
    ui.follow_artifact(f"campaign-{name}")
    ui.sees(f"{failed}: {reason}", "stage 'summary' needs 3 jobs of stage 'science'")
    ui = ui.follow_out("#0")

    # The slice: how far it is, the failed job by name, its step and its reason.
    ui.is_in("Failed")
    ui.sees(f"{name} science #0")
    ui.tab("Details")
    ui.sees(f"1 of 3 jobs not done: {failed}: detect")
    ui.unfold()
    ui.sees(f"1 of 3 jobs not done: {failed}: {reason}")
    ui.tab("Artifacts")
    ui.sees("2 of 3 jobs done, failed attempts: 1")
    ui.follow_artifact(f"jobs-{name}-science-0")
    ui.sees_row(failed.partition("/")[2], "failed", "1", "detect", "step_failed", "no star in", "<good>", "*copy*")
    ui.sees_row(f"exposure={100 * night}", "done", "1", "published")
    ui.follow(f"{name} science #0")
    ui.tab("Task Runs")
    ui.follow(failed)
    ui.is_in("Failed")
    ui.sees(f'Finished in state Failed("{reason}")')

    # The cause is mended, and the slice retried: only what failed runs again, and the campaign goes on to its end.
    flag.touch()
    ui.follow(f"{name} science #0")
    ui.retry()
    ui.is_in("Completed")
    until(lambda: conductor_at(conductor.site).state(run).type == "COMPLETED", 90, "the campaign to go on to its end")
    assert set(conductor.observatory.states(name).values()) == {"done"}
    times_run = Counter(line[:4] for line in written(notes).splitlines())
    assert times_run == {f"{100 * night}": 1, f"{100 * night + 1}": 2, f"{100 * night + 2}": 1}
    ui.flow_run(run)
    ui.is_in("Completed")
    ui.tab("Details")
    ui.sees("4 jobs done")


def have_answers(ui: Ui, asked: Sequence[Request]) -> None:
    """Wait until a page asks its server nothing more; for whom it asks elsewhere, in vain, it may ask for ever."""
    answered, own = -1, 0
    while own > answered:
        answered = own
        ui.page.wait_for_timeout(500)
        of_server = [request for request in asked if request.url.startswith(ui.url)]
        for request in of_server[answered:]:
            request.response()
        own = len(of_server)


@pytest.mark.req("X34")
@pytest.mark.parametrize("prefix", ["", "/v2"], ids=["classic", "v2"])
def test_a_link_signs_in_to_either_ui_and_nothing_leaves_the_site(
    ui: Ui, conductor: Conductor, tmp_path: Path, prefix: str
) -> None:
    run = conductor.submit("note/note", file=str(tmp_path / "note"))
    conductor.wait(run, "Completed")
    name = conductor.client.read_flow_run(run).name
    ui.go("/")
    ui.page.evaluate("localStorage.clear()")
    ui = Ui(ui.page.context.new_page(), ui.url)
    asked: list[Request] = []
    said: list[str] = []
    ui.page.on("request", lambda request: asked.append(request))  # noqa: PLW0108 - Playwright sets an attribute of it
    ui.page.on("console", lambda message: said.append(message.text))
    ui.shows(server.link(service.folder_of(conductor.site), f"{prefix}/runs"), name)
    for path in ("/dashboard", "/flows", "/deployments", "/work-pools", f"/runs/flow-run/{run}"):
        ui.go(f"{prefix}{path}")
        have_answers(ui, asked)
    ui.shows(server.link(service.folder_of(conductor.site), f"{prefix}/runs/flow-run/{run}"), name)
    left = [request for request in asked if not request.url.startswith((ui.url, "data:", "blob:"))]
    assert [request.url for request in left if "csp" not in (request.failure or "").lower()] == []
    refused = [text for text in said if "Content Security Policy" in text]
    assert [text for text in refused if ui.url in text] == [], "the policy takes nothing from the UI itself"
    assert bool(refused) == (prefix == "/v2"), "the classic UI asks nobody, the other one tries"
    ui.page.close()
