"""The Prefect server of a site."""

from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from importlib import resources
from pathlib import Path

import pytest

from flows.hosting import server
from flows.hosting.daemon import DaemonState
from flows.hosting.service import folder_of
from nightmill.config.server import NO_AUTH, ServerConfig
from nightmill.errors import RequestRefused, ServerAway
from tests.flows.conftest import Conductor
from tests.support import prefect_database


@pytest.fixture
def folder(prefect_template: Path, tmp_path: Path) -> Path:
    """Give the folder of a server that was never started."""
    prefect_database.give(tmp_path, prefect_template)
    return folder_of(tmp_path)


def _ui_settings(url: str) -> str:
    with urllib.request.urlopen(f"{url}/ui-settings", timeout=100) as response:
        text: str = response.read().decode()
    return text


def test_answers_and_is_not_started_twice(conductor: Conductor) -> None:
    folder = folder_of(conductor.site)
    first = server.status(folder)
    assert (first.state, first.healthy) == (DaemonState.RUNNING, True)
    assert server.start(folder, ServerConfig()) == first
    assert first.api_url.startswith("http://127.0.0.1:")


def test_the_ui_calls_the_server_that_it_came_from(conductor: Conductor) -> None:
    assert '"api_url":"/api"' in _ui_settings(server.status(folder_of(conductor.site)).ui_url)


def test_keeps_to_its_folder(conductor: Conductor) -> None:
    folder = folder_of(conductor.site)
    assert (folder / "prefect.db").exists()
    assert server.api_environment(folder)["PREFECT_HOME"] == str(folder / "home")


def test_password_restart_and_a_new_port_where_the_old_one_is_taken(folder: Path) -> None:
    options = ServerConfig(auth="operator:secret")
    try:
        first = server.start(folder, options)
        assert server.api_environment(folder)["PREFECT_API_AUTH_STRING"] == "operator:secret"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{first.api_url}/admin/version", timeout=100)
        refused.value.close()
        assert refused.value.code == 401
        assert server.stop(folder)
        assert server.status(folder).state is DaemonState.STOPPED
        port = int(first.ui_url.rpartition(":")[2])
        with socket.create_server(("127.0.0.1", port)):
            second = server.start(folder, options)
        assert second.healthy
        assert second.api_url != first.api_url
    finally:
        server.stop(folder)


def test_one_that_died_is_started_again(folder: Path) -> None:
    try:
        daemon = server.daemon(folder)
        ghost = daemon.spawn(["true"], {}, {"port": "1", "api_url": "http://127.0.0.1:1/api", "ui_url": ""})
        while daemon.state() is not DaemonState.DEAD:
            pass
        started = server.start(folder, ServerConfig())
        assert started.healthy
        assert started.pid != ghost.pid
    finally:
        server.stop(folder)


def test_a_server_that_ends_while_it_starts_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerAway, match=r"ended while it started; the end of .*server\.log:\n(.*\n)+.*nonsense"):
        server.start(tmp_path, ServerConfig(database="nonsense://nowhere"))
    assert server.status(tmp_path).state is DaemonState.DEAD


def test_a_server_that_does_not_answer_in_time_says_what_to_do(tmp_path: Path) -> None:
    try:
        with pytest.raises(
            ServerAway, match=r"did not answer at http://127.* within 0 s(.*\n)+.*nightmill server stop"
        ):
            server.start(tmp_path, ServerConfig(), timeout_seconds=0.1)
    finally:
        server.stop(tmp_path)


def test_a_port_that_is_taken_is_refused_by_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RequestRefused, match=rf"port {port} on 127\.0\.0\.1 is taken .*server\.port"):
            server.start(tmp_path, ServerConfig(port=port))


def test_others_reach_no_server_without_a_password(tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match=r"0\.0\.0\.0 without a password .*server\.auth"):
        server.start(tmp_path, ServerConfig(host="0.0.0.0", auth=NO_AUTH))


def test_a_server_that_was_never_started_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(ServerAway, match="nightmill server start"):
        server.api_environment(tmp_path)
    assert server.status(tmp_path).state is DaemonState.STOPPED
    assert not server.stop(tmp_path)


@pytest.mark.parametrize(
    ("configured", "url"),
    [
        ("", "sqlite+aiosqlite:////folder/prefect.db"),
        ("sqlite:////data/prefect.db", "sqlite+aiosqlite:////data/prefect.db"),
        ("postgresql://me@host/prefect", "postgresql+asyncpg://me@host/prefect"),
        ("postgresql+psycopg://me@host/prefect", "postgresql+asyncpg://me@host/prefect"),
    ],
)
def test_database_urls_get_the_driver_that_the_server_needs(configured: str, url: str) -> None:
    assert server.database_url(Path("/folder"), configured) == url


@pytest.mark.parametrize("name", ["server", "client"])
def test_every_shipped_setting_has_its_reason(name: str) -> None:
    text = resources.files("deployments").joinpath(f"{name}.env").read_text()
    for paragraph in text.split("\n\n"):
        assert re.fullmatch(r"(# .+\n?)+([A-Z_]+=\S+\n?)*", paragraph), paragraph
    assert len(server.shipped_settings(name)) == len(re.findall(r"^[A-Z]", text, re.MULTILINE))
