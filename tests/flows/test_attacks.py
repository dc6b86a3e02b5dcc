"""What others who reach the Prefect API of a site can do with it: nothing, without its secret; and with it, no harm."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from flows.hosting import access, service
from flows.hosting.access import read_secret, secret_file, ticket
from flows.hosting.api import PrefectApi
from flows.hosting.conductor import PrefectConductor
from flows.hosting.daemon import DaemonState
from nightmill.cli import main
from nightmill.errors import ServerAway
from tests.flows.conftest import Conductor, Observe, conductor_at, until, written
from tests.support.observatory import Observatory


@dataclass
class Attacker:
    """Somebody who reaches the API.

    Parameters
    ----------
    auth
        What they know of its secret.
    """

    conductor: Conductor
    proof: Path
    auth: tuple[str, str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    deployed: list[UUID] = field(default_factory=list)

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        url = f"{service.status(self.conductor.site).server.api_url}{path}"

        def answer() -> httpx.Response | None:
            got = httpx.request(method, url, json=body, auth=self.auth, headers=self.headers, timeout=30)
            return None if got.status_code == 503 else got

        return until(answer, 60, "an answer")  # its database is locked by another request at times

    def deploys(self, **changes: object) -> httpx.Response:
        """Have the runner's own work pool carry out a flow after a shell script of the attacker's."""
        script = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {self.proof}"}}
        body = {
            "flow_id": self.ask("POST", "/flows/", {"name": "note"}).json().get("id", str(UUID(int=1))),
            "name": "theirs",
            "entrypoint": "tests.flows.stand_ins.note",
            "pull_steps": [script],
            "work_pool_name": "nightmill",
            "work_queue_name": "slices",
            "parameters": {"file": str(self.proof)},
        }
        answer = self.ask("POST", "/deployments/", body | changes)
        if answer.is_success and answer.json()["name"] == "theirs":
            self.deployed.append(UUID(answer.json()["id"]))
        return answer

    def runs(self, deployment: object, **parameters: object) -> httpx.Response:
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.ask("POST", f"/deployments/{deployment}/create_flow_run", body)


@pytest.fixture
def stranger(conductor: Conductor, tmp_path: Path) -> Iterator[Attacker]:
    """Give one who knows nothing, and leave nothing of theirs on the server."""
    conductor.start()
    attacker = Attacker(conductor, tmp_path / "proof")
    yield attacker
    for deployment in attacker.deployed:
        conductor.client.delete_deployment(deployment)


@pytest.fixture
def insider(stranger: Attacker) -> Attacker:
    """Give one who has the secret."""
    user, _, password = read_secret(service.folder_of(stranger.conductor.site)).partition(":")
    stranger.auth = (user, password)
    return stranger


@pytest.mark.req("X34")
def test_without_the_secret_nobody_deploys_or_runs_or_reads(stranger: Attacker, conductor: Conductor) -> None:
    note = conductor.client.read_deployment_by_name("note/note")
    assert stranger.deploys().status_code == 401
    assert stranger.runs(note.id, file=str(stranger.proof)).status_code == 401
    assert stranger.ask("POST", "/flow_runs/filter", {}).status_code == 401
    stranger.auth = ("nightmill", "guess")
    assert stranger.deploys().status_code == 401


@pytest.mark.req("X34")
def test_the_runner_refuses_a_deployment_of_others_even_with_the_secret(insider: Attacker) -> None:
    deployment = insider.deploys()
    assert deployment.status_code == 201, deployment.text
    run = insider.runs(deployment.json()["id"]).json()["id"]
    state = insider.conductor.wait(UUID(run), "Refused")
    assert state.type.value == "FAILED"
    assert state.message is not None
    assert state.message.startswith("its deployment was not made by the runner of this site: nothing was executed; ")
    assert not insider.proof.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "touch PROOF"}}]},
        {"entrypoint": "examples.anything", "pull_steps": []},
    ],
    ids=["pull steps", "entry point"],
)
def test_the_runner_refuses_a_deployment_of_its_own_that_was_changed(
    insider: Attacker, conductor: Conductor, change: dict[str, object]
) -> None:
    vanish = conductor.client.read_deployment_by_name("vanish/vanish")
    changed = json.loads(json.dumps(change).replace("PROOF", str(insider.proof)))
    try:
        body = {"flow_id": str(vanish.flow_id), "name": "vanish", "entrypoint": vanish.entrypoint, **changed}
        assert insider.deploys(**body).json()["id"] == str(vanish.id)
        state = conductor.wait(UUID(insider.runs(vanish.id, code=3).json()["id"]), "Refused")
        assert "its deployment 'vanish' is no longer as the runner of this site has made it" in (state.message or "")
        assert not insider.proof.exists()
    finally:
        body = {"entrypoint": vanish.entrypoint, "pull_steps": [], "parameters": {}}
        assert insider.deploys(flow_id=str(vanish.flow_id), name="vanish", **body).status_code in (200, 201)


@pytest.mark.req("X34")
@pytest.mark.parametrize(
    ("deployment", "parameters"),
    [
        ("campaign/campaign", {"campaign": "theirs"}),
        ("slice/slice", {"campaign": "theirs", "stage": "science", "number": 0}),
        ("reconcile/reconcile", {}),
    ],
)
def test_a_flow_refuses_another_site_than_its_own(
    insider: Attacker, conductor: Conductor, tmp_path: Path, deployment: str, parameters: dict[str, object]
) -> None:
    theirs = Observatory.build(tmp_path / "theirs").directory
    (theirs / "nightmill.yaml").write_text("not: a site\n")  # whoever opened it would say so
    own = conductor.client.read_deployment_by_name(deployment)
    run = UUID(insider.runs(own.id, **parameters, site=str(theirs)).json()["id"])
    state = conductor.wait(run, "Refused")
    expected = f"the flow run is for site {theirs}, and was deployed for {conductor.site}: nothing was begun"
    assert (state.type.value, state.message) == ("FAILED", expected)


@pytest.mark.req("X34")
def test_no_foreign_page_and_no_foreign_name_reach_it(insider: Attacker, conductor: Conductor) -> None:
    status = service.status(conductor.site).server
    insider.headers = {"Origin": "http://evil.example"}
    for method, path in (("OPTIONS", "/flow_runs/filter"), ("POST", "/flow_runs/filter"), ("GET", "/health")):
        answer = insider.ask(method, path, {})
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
    insider.headers = {"Host": "evil.example"}
    assert insider.ask("POST", "/flow_runs/filter", {}).status_code == 400
    insider.headers = {"Origin": status.ui_url}
    assert insider.ask("POST", "/flow_runs/filter", {}).status_code == 200
    own = status.ui_url.removeprefix("http://")
    for host, origin in (("evil.example", None), (own, Origin("http://evil.example")), (own, Origin("null"))):
        wire = socket.create_connection(("127.0.0.1", int(own.rpartition(":")[2])))
        with pytest.raises(InvalidStatus) as refused, connect(f"ws://{host}/api/events/in", sock=wire, origin=origin):
            pass
        assert refused.value.response.status_code == 403


def test_doctor_finds_every_way_in_shut(conductor: Conductor, capsys: pytest.CaptureFixture[str]) -> None:
    conductor.start()
    with pytest.raises(SystemExit):
        main(["doctor", "--json", "--site", str(conductor.site)])
    found = {each["what"]: each for each in json.loads(capsys.readouterr().out)}
    ways = ("mode of server", "mode of secret", "Prefect API without its secret", "Prefect API, foreign Host")
    for what in (*ways, "Prefect API, foreign Origin", "Prefect UI", "Prefect server"):
        assert found[what]["well"], found[what]


def test_the_secret_is_for_its_owner_alone_and_stands_nowhere_else(observe: Observe, conductor: Conductor) -> None:
    campaign = observe("")
    campaign.start()
    assert campaign.wait().type == "COMPLETED"
    folder = service.folder_of(conductor.site)
    secret = read_secret(folder)
    password = secret.partition(":")[2]
    assert len(password) >= 40
    assert secret_file(folder).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    found = [path for path in conductor.site.rglob("*") if path.is_file() and password.encode() in path.read_bytes()]
    assert found == [secret_file(folder)]
    running = service.status(conductor.site)
    for pid in (running.server.pid, running.runner_pid):
        assert not any(password in item for item in psutil.Process(pid).cmdline())


class Squatter:
    """A program of somebody else's that has taken a port, and keeps what it is sent."""

    def __init__(self, port: int) -> None:
        self.heard = b""
        self.calls = 0
        self._listening = socket.create_server(("127.0.0.1", port))
        self._listening.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._listening.close()

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                continue
            with connection:
                self.calls += 1
                connection.settimeout(1)
                try:
                    self.heard += connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntrue")
                except OSError:
                    continue


@contextmanager
def squatted(conductor: Conductor) -> Iterator[Squatter]:
    """Have the server crash, and somebody else take its port."""
    status = service.status(conductor.site).server
    port = int(status.ui_url.rpartition(":")[2])
    os.kill(status.pid, signal.SIGKILL)
    until(lambda: service.status(conductor.site).server.state is DaemonState.DEAD, 10, "the end of the server")
    squatter = until(lambda: _take(port), 10, f"port {port}")
    try:
        yield squatter
    finally:
        squatter.close()
        conductor.start()


def _take(port: int) -> Squatter | None:
    try:
        return Squatter(port)
    except OSError:
        return None


@pytest.mark.req("X34")
def test_who_takes_the_port_of_a_crashed_server_is_told_no_secret(
    observe: Observe, conductor: Conductor, tmp_path: Path
) -> None:
    """Not by commands, nor by the runner, nor by a flow run that goes on meanwhile."""
    run = conductor.submit("asks-often/asks-often", file=str(tmp_path / "asked"))
    until(lambda: written(tmp_path / "asked"), 30, "a flow run that asks the server")
    with squatted(conductor) as squatter, conductor.observatory.open() as site:
        tried = written(tmp_path / "asked").count("\n")
        argv = [sys.executable, "-m", "nightmill", "server", "status", "--site", str(conductor.site)]
        assert subprocess.run(argv, capture_output=True, check=False).returncode == 3
        assert PrefectConductor(site).reconcile(None, ["x"]).away == "its server is dead"
        with pytest.raises(ServerAway, match="is dead; start it with `nightmill server start`"):
            conductor_at(conductor.site).require()
        with pytest.raises(ServerAway, match="is dead"), PrefectApi.of_site(conductor.site) as api:
            api.read(str(run))
        until(lambda: written(tmp_path / "asked").count("\n") > tried + 3, 60, "the flow run to have asked again")
        until(lambda: "away" in (service.folder_of(conductor.site) / "runner.log").read_text(), 30, "the runner to ask")
        assert (squatter.calls, squatter.heard) == (0, b"")
    (tmp_path / "asked.stop").touch()
    conductor.wait(run, "Completed", seconds=200)


def test_a_link_signs_in_for_a_night_and_tells_no_secret(conductor: Conductor, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = read_secret(service.folder_of(conductor.site))
    url = f"{service.status(conductor.site).server.ui_url}/sign-in"
    good = ticket(secret)
    assert httpx.post(url, content=good).status_code == 200
    monkeypatch.setattr(access, "LINK_SECONDS", -1)
    old = ticket(secret)
    for bad in ("", "x", old, good[:-1], good + "A" * 200, "\xff"):
        answer = httpx.post(url, content=bad.encode())
        assert (answer.status_code, answer.text) == (403, "This link is no longer valid.\n")
