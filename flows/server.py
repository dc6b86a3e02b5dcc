"""The Prefect server of a site, as a background process of the site's own folder.

Nothing here imports Prefect, so that asking for the state of a server takes no time.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import psutil

from flows.daemon import Daemon, DaemonState, clean_environment
from nightmill.config.site import ServerConfig
from nightmill.errors import RequestRefused, ServerAway
from nightmill.execution.owner import is_alive
from nightmill.model.journal import Owner

HEALTH_TIMEOUT_SECONDS = 5.0
STOP_GRACE_SECONDS = 20.0
PORT_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class ServerStatus:
    """What is known of a server.

    Parameters
    ----------
    state
        Whether its process lives.
    healthy
        Whether it answers.
    """

    state: DaemonState
    healthy: bool
    pid: int = 0
    api_url: str = ""
    ui_url: str = ""
    log: str = ""


def daemon(folder: Path) -> Daemon:
    """Return the background process that serves the site whose server folder this is."""
    return Daemon(folder, "server")


def start(folder: Path, config: ServerConfig, *, timeout_seconds: float = 180.0) -> ServerStatus:
    """Start the server unless it runs already, and wait until it answers.

    Parameters
    ----------
    folder
        Where it keeps its record, log, database and ``PREFECT_HOME``; nothing outside is touched.
    config
        Ignored where it runs already.
    timeout_seconds
        How long the first answer may take; an empty database is migrated first (5 to 50 s).

    Returns
    -------
    ServerStatus
        Of a server that is healthy.

    Raises
    ------
    RequestRefused
        Where the port is taken, or others could reach a server that has no password.
    ServerAway
        Where it ended or did not answer in time; shows the end of its log.
    """
    server = daemon(folder)
    with server.locked():
        found = server.state() is DaemonState.RUNNING
        if not found:
            _spawn(server, config)
        try:
            _wait_until_healthy(server, timeout_seconds)
        except ServerAway:
            if not found or server.state() is DaemonState.RUNNING:
                raise
            _spawn(server, config)  # the one that was found was about to end
            _wait_until_healthy(server, timeout_seconds)
    return status(folder)


def stop(folder: Path) -> bool:
    """Stop the server.

    Returns
    -------
    bool
        Whether it ran.
    """
    server = daemon(folder)
    with server.locked():
        return server.stop(STOP_GRACE_SECONDS)


def status(folder: Path) -> ServerStatus:
    """Tell how the server is, within a few seconds."""
    server = daemon(folder)
    record, state = server.record(), server.state()
    if record is None:
        return ServerStatus(state, healthy=False)
    return ServerStatus(
        state=state,
        healthy=state is DaemonState.RUNNING and _answers(record.details["api_url"]),
        pid=record.owner.pid if state is DaemonState.RUNNING else 0,
        api_url=record.details["api_url"],
        ui_url=record.details["ui_url"],
        log=str(server.log),
    )


def api_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a process that talks to this server; set it before Prefect is imported.

    Raises
    ------
    ServerAway
        Where no server was ever started here.
    """
    record = daemon(folder).record()
    if record is None:
        raise ServerAway(f"no Prefect server was started in {folder}", remedy="start it with `nightmill server start`")
    return {
        **shipped_settings("client"),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": record.details["api_url"],
        **({"PREFECT_API_AUTH_STRING": record.details["auth"]} if record.details["auth"] else {}),
    }


def shipped_settings(name: str) -> dict[str, str]:
    """Read ``deployments/NAME.env``: a setting a line, ``#`` for comments."""
    text = resources.files("deployments").joinpath(f"{name}.env").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def database_url(folder: Path, configured: str) -> str:
    """Return the URL with the asynchronous driver that the server needs; SQLite in the folder where none is given."""
    if not configured:
        return f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    scheme, _, rest = configured.partition("://")
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
    return f"{drivers.get(scheme.partition('+')[0], scheme)}://{rest}"


def _spawn(server: Daemon, config: ServerConfig) -> None:
    if not config.auth and not _is_loopback(config.host):
        raise RequestRefused(
            f"a Prefect server on {config.host} without a password lets everybody there run commands as you",
            remedy="set server.auth to user:password, or server.host to 127.0.0.1",
        )
    server.new_log()
    previous = server.record()
    port = _choose_port(config, int(previous.details["port"]) if previous else 0)
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{port}"
    folder = server.folder
    environment = clean_environment(
        {
            **shipped_settings("server"),
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_DATABASE_CONNECTION_URL": database_url(folder, config.database),
            "PREFECT_UI_STATIC_DIRECTORY": str(folder / "ui"),
            **({"PREFECT_SERVER_API_AUTH_STRING": config.auth} if config.auth else {}),
        }
    )
    server.spawn(
        [sys.executable, "-m", "flows.prefect_server", "start", "--host", config.host, "--port", str(port)],
        environment,
        {"port": str(port), "api_url": f"{url}/api", "ui_url": url, "auth": config.auth},
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _choose_port(config: ServerConfig, previous: int) -> int:
    if config.port:
        if not _is_free(config.host, config.port):
            raise RequestRefused(
                f"port {config.port} on {config.host} is taken by another program",
                remedy="stop that program, or set server.port to another port, or to 0 for a free one",
            )
        return config.port
    if previous and _is_free(config.host, previous):
        return previous
    with socket.create_server((config.host, 0), family=_family(config.host)) as free:
        return int(free.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    """Whether a port is free, or becomes so soon: a server that was killed may hold it for a moment longer."""
    deadline = time.monotonic() + PORT_PATIENCE_SECONDS
    while True:
        try:
            socket.create_server((host, port), family=_family(host)).close()
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
        time.sleep(0.1)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _wait_until_healthy(server: Daemon, timeout_seconds: float) -> None:
    record = server.record()
    assert record is not None  # it was spawned, or runs
    deadline = time.monotonic() + timeout_seconds
    while not (_listens(record.owner, int(record.details["port"])) and _answers(record.details["api_url"])):
        if is_alive(record.owner) is False:
            raise ServerAway(
                f"the Prefect server ended while it started; the end of {server.log}:\n{server.log_tail()}"
            )
        if time.monotonic() > deadline:
            raise ServerAway(
                f"the Prefect server (pid {record.owner.pid}) did not answer at {record.details['api_url']} within "
                f"{timeout_seconds:.0f} s; the end of {server.log}:\n{server.log_tail()}",
                remedy="wait and ask with `nightmill server status`, or stop it with `nightmill server stop`",
            )
        time.sleep(0.1)


def _listens(owner: Owner, port: int) -> bool:
    """Whether it is this process that has the port, and not another server that answers there."""
    if is_alive(owner) is None:
        return True  # on another host
    try:
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            for connection in psutil.Process(owner.pid).net_connections("tcp")
        )
    except psutil.NoSuchProcess:
        return False


def _answers(api_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=HEALTH_TIMEOUT_SECONDS) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
