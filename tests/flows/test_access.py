"""The secret of a server, and whose server it is."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE

import pytest

from flows.hosting import server, service
from flows.hosting.access import make_secret, read_secret, secret_file, sign_in_url
from flows.hosting.conductor import PrefectConductor
from flows.hosting.daemon import DaemonRecord, keep
from flows.hosting.exposure import exposures
from flows.hosting.listener import has_its_port, require_own, sockets_of
from nightmill.cli import main
from nightmill.config.server import NO_AUTH, ServerConfig
from nightmill.config.site import load_site
from nightmill.errors import ServerAway
from nightmill.execution.owner import owner_of, this_process
from nightmill.model.journal import Owner
from tests.flows.conftest import conductor_at
from tests.support.observatory import Observatory

NOBODY = 65534


def test_a_random_secret_is_kept_from_start_to_start(tmp_path: Path) -> None:
    first = make_secret(tmp_path, "")
    assert re.fullmatch(r"nightmill:[\w-]{43}", first)
    assert make_secret(tmp_path, "") == first == read_secret(tmp_path)
    assert secret_file(tmp_path).stat().st_mode & 0o777 == 0o600
    assert first.partition(":")[2] not in sign_in_url("http://127.0.0.1:4200", first, "/runs")


def test_a_secret_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    first = make_secret(tmp_path, "")
    secret_file(tmp_path).chmod(0o644)
    assert make_secret(tmp_path, "") not in ("", first)
    assert secret_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_password_of_the_site_counts_as_long_as_it_is_configured(tmp_path: Path) -> None:
    assert make_secret(tmp_path, "operator:weak") == read_secret(tmp_path) == "operator:weak"
    assert make_secret(tmp_path, "").startswith("nightmill:")
    assert make_secret(tmp_path, NO_AUTH) == read_secret(tmp_path) == ""
    assert not secret_file(tmp_path).exists()
    assert sign_in_url("http://127.0.0.1:4200", "", "/runs") == "http://127.0.0.1:4200/runs"


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    """Give a site whose server is this process, and the socket that it listens by."""
    site = Observatory.build(tmp_path / "site").directory
    folder = service.folder_of(site)
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as own:
        _remember(folder, this_process(), own.getsockname()[1])
        yield site, own


def _remember(folder: Path, owner: Owner, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    sockets = sockets_of(owner, port)
    details = {"port": str(port), "api_url": f"{url}/api", "ui_url": url, "sockets": sockets}
    keep(folder / "server.json", DaemonRecord(owner=owner, details=details))


def test_a_port_is_its_own_while_it_listens_by_the_same_socket(listening: tuple[Path, socket.socket]) -> None:
    site, own = listening
    daemon = server.daemon(service.folder_of(site))
    require_own(daemon)
    address, number = own.getsockname(), own.fileno()
    own.close()
    with socket.create_server(address) as other:
        other.detach() if other.fileno() == number else os.dup2(other.fileno(), number)  # under the number of the first
        try:
            with pytest.raises(
                ServerAway, match=rf"runs \(pid {os.getpid()} .* does not answer at http.*wait a moment"
            ):
                require_own(daemon)
        finally:
            os.close(number)


def test_the_loopback_address_of_another_host_is_nobody_here(listening: tuple[Path, socket.socket]) -> None:
    site, own = listening
    folder = service.folder_of(site)
    record = server.daemon(folder).record()
    assert record is not None
    elsewhere = record.model_copy(update={"owner": record.owner.model_copy(update={"host": "elsewhere"})})
    keep(folder / "server.json", elsewhere)
    with pytest.raises(ServerAway, match=r"runs on host 'elsewhere', and listens to it alone; go there"):
        require_own(server.daemon(folder))
    for address, reached in (("0.0.0.0", False), ("localhost", False), ("[::1]", False), ("mill.example.org", True)):
        details = {**record.details, "api_url": f"http://{address}:{own.getsockname()[1]}/api"}
        assert has_its_port(elsewhere.model_copy(update={"details": details})) is reached


def test_one_that_runs_and_does_not_answer_is_not_to_be_started(listening: tuple[Path, socket.socket]) -> None:
    site, _own = listening
    with pytest.raises(ServerAway) as told:
        conductor_at(site).require()
    assert f"runs (pid {os.getpid()} on host" in str(told.value)
    assert "and does not answer at http://127.0.0.1:" in told.value.message
    assert told.value.remedy.startswith("wait a moment; if it stays so, look at ")
    assert told.value.remedy.endswith("server.log, then `nightmill server stop` and start it again")


def test_doctor_names_files_that_others_can_read(listening: tuple[Path, socket.socket]) -> None:
    site, _own = listening
    folder = service.folder_of(site)
    make_secret(folder, "")
    secret_file(folder).chmod(0o640)
    folder.chmod(0o750)
    found = {each.what: each for each in exposures(folder, ServerConfig())}
    assert not found["mode of secret"].shut
    assert found["mode of secret"].seen.startswith("640, and others can look into it: `nightmill server stop`")
    assert not found["mode of server"].shut


class OpenToAll(BaseHTTPRequestHandler):
    """A server without a secret, that takes any name and any page, as Prefect's does by itself."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"true")

    def log_message(self, *_: object) -> None:
        pass


def test_doctor_names_each_way_in_that_is_open(tmp_path: Path) -> None:
    site = Observatory.build(tmp_path / "site").directory
    folder = service.folder_of(site)
    folder.mkdir(parents=True)
    with (site / "nightmill.yaml").open("a") as file:
        file.write("server: {auth: none}\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), OpenToAll) as opened:
        threading.Thread(target=opened.serve_forever).start()
        try:
            _remember(folder, this_process(), opened.server_port)
            found = {each.what: each for each in exposures(folder, load_site(site).server)}
        finally:
            opened.shutdown()
    open_ = {what: each.seen for what, each in found.items() if not each.shut and not what.startswith("mode")}
    assert open_ == {
        "Prefect API without its secret": "lets every user of this host run commands as you (server.auth is 'none')",
        "Prefect API, foreign Host": "is let in: `nightmill server stop`, then start it again",
        "Prefect API, foreign Origin": "is let in: `nightmill server stop`, then start it again",
        "Prefect UI": "asks hosts of the internet: `nightmill server stop`, then start it again",
    }


@contextmanager
def another_user() -> Iterator[None]:
    """Be an ordinary user meanwhile."""
    if os.getuid():
        pytest.skip("only root can be somebody else")
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


LISTENS = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"


@pytest.fixture
def of_root() -> Iterator[Path]:
    """Give a site whose folder everybody may enter, unlike temporary folders of tests, and whose server is root's."""
    with tempfile.TemporaryDirectory(prefix="nightmill-test-") as name:
        Path(name).chmod(0o755)
        before = os.umask(0o022)
        try:
            site = Observatory.build(Path(name) / "site").directory
            service.folder_of(site).mkdir(parents=True)
        finally:
            os.umask(before)
        with subprocess.Popen([sys.executable, "-c", LISTENS], stdout=PIPE, text=True) as process:
            try:
                assert process.stdout
                _remember(service.folder_of(site), owner_of(process.pid), int(process.stdout.readline()))
                yield site
            finally:
                process.kill()


@pytest.mark.parametrize("mode", [0o700, 0o755], ids=["its folder is shut", "its folder is open"])
def test_another_user_is_told_whose_the_server_is(of_root: Path, mode: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the folder is open, it is the process that may not be looked at."""
    folder = service.folder_of(of_root)
    (folder / "server.json").chmod(0o600 | mode & 0o044)
    folder.parent.chmod(mode)
    whose = "the (server|runner) in .* belongs to user 'root', and answers to that user alone; ask that user"
    with Observatory(of_root).open() as site, another_user():
        for act in (service.status, service.stop, lambda _: PrefectConductor(site).require()):
            with pytest.raises(ServerAway, match=whose):
                act(of_root)
        with pytest.raises(ServerAway, match="belongs to user 'root'"):
            service.start(of_root, ServerConfig())
        with pytest.raises(SystemExit) as ended:
            main(["server", "status", "--site", str(of_root)])
        assert ended.value.code == ServerAway.exit_code
        assert "belongs to user 'root'" in PrefectConductor(site).reconcile(None, ["x"]).away
        assert (PrefectConductor(site).link("x") == "") == (mode == 0o700)
    assert "belongs to user 'root'" in capsys.readouterr().err
