"""``nightmill status`` beside Prefect's server: asked where it answers at once, told where it does not."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.hosting import api, server
from flows.hosting.daemon import DaemonRecord, keep
from flows.hosting.listener import sockets_of
from flows.hosting.service import folder_of
from nightmill.backbone.work.campaigns import campaign_named
from nightmill.backbone.work.conducting import conducts_campaign
from nightmill.cli.render import standing as _standing
from nightmill.config.campaign import load_campaign
from nightmill.execution.owner import this_process
from nightmill.model.conducting import RunState, Seen
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill
from tests.cli.test_operators import PIPELINE, TYPES
from tests.support.observatory import deliver

RUN = "7c1f2c1e-0000-4000-8000-000000000001"


@pytest.fixture
def site(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site with a campaign that is conducted by a flow run."""
    with (folder / "file_types.yaml").open("a") as file:
        file.write(TYPES)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "first.yaml").write_text("campaign: first\npipeline: pipeline.yaml\n")
    deliver(tmp_path / "night", 1)
    assert nightmill("ingest", tmp_path / "night", "--type", "raw_science", "--origin", "raw").code == 0
    with open_site(folder) as opened:
        submit(opened, load_campaign(folder / "first.yaml"), who="ada")
        opened.database.write(
            lambda session: conducts_campaign(session, campaign_named(session, "first").id, RUN),
        )
    return folder


@pytest.fixture
def silent(site: Path) -> Iterator[None]:
    """Let the site's server take connections and answer none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        port = url.rpartition(":")[2]
        details = {"port": port, "api_url": f"{url}/api", "ui_url": url}
        details["sockets"] = sockets_of(this_process(), int(port))
        folder_of(site).mkdir(parents=True)
        keep(folder_of(site) / "server.json", DaemonRecord(owner=this_process(), details=details))
        assert server.daemon(folder_of(site)).state() == "running"
        yield


def test_where_no_server_runs_that_is_said_and_the_backbone_shown(site: Path, nightmill: Nightmill) -> None:
    told = nightmill("status", "first", "--json")
    assert (told.code, told.err) == (
        0,
        "Prefect was not reached (its server is stopped): this is what the backbone knows\n",
    )
    [campaign] = told.json
    assert campaign["flow_run_state"] is None
    assert [(stage["stage"], stage["planned"]) for stage in campaign["stages"]] == [("copy", 1)]


@pytest.mark.usefixtures("silent")
def test_a_server_that_does_not_answer_is_not_waited_for(
    site: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "HURRY_SECONDS", 0.1)
    told = nightmill("status", "first")
    assert told.code == 0
    assert "Prefect was not reached (the Prefect server at http://127.0.0.1:" in told.err
    assert "timed out (POST /flow_runs/filter)): this is what the backbone knows" in told.err
    assert "copy" in told.out


def test_who_watches_asks_prefect_seldom_and_leaves_when_the_flow_run_has_ended(
    site: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [Seen({RUN: RunState("RUNNING", "Running")}), Seen({RUN: RunState("CANCELLED", "Cancelled")})]
    clock, looks = iter(range(1_000, 10_000, 10)), []

    class Asked:
        def reconcile(self, *_: object) -> Seen:
            looks.append(next(clock))
            return answers.pop(0)

        def url(self, _: str) -> str:
            return "http://ui/first"

        link = url

    monkeypatch.setattr(_standing, "conductor_of", lambda _: Asked())
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    told = nightmill("status", "first", "--watch")
    assert told.code == 0
    assert answers == []
    assert looks[1] - looks[0] >= _standing.RECONCILE_SECONDS
    assert told.out.count("first (copying 1.0)") > 2, "shown more often than Prefect is asked"
    assert told.out.endswith("http://ui/first Cancelled\n")
