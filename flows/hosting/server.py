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
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import psutil

from flows.hosting.access import make_secret, read_secret, sign_in_url
from flows.hosting.daemon import Daemon, DaemonState, clean_environment
from flows.hosting.doors import HOSTS_VARIABLE, LOOPBACK
from flows.hosting.listener import START, has_its_port, sockets_of
from nightmill.config.server import NO_AUTH, ServerConfig
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


def start(
    folder: Path, config: ServerConfig, *, settings: Mapping[str, str] = {}, timeout_seconds: float = 180.0
) -> ServerStatus:
    """Start the server unless it runs already, and wait until it answers.

    Parameters
    ----------
    folder
        Where it keeps its record, log, database and ``PREFECT_HOME``; nothing outside is touched.
    config
        Ignored where it runs already.
    settings
        More settings of Prefect.
    timeout_seconds
        How long the first answer may take; an empty database is migrated first (5 to 50 s).

    Returns
    -------
    ServerStatus
        Of a server that is healthy.

    Raises
    ------
    RequestRefused
        Where the port is taken, or others could reach a server that lets everyone in.
    ServerAway
        Where it ended or did not answer in time; shows the end of its log.
    """
    server = daemon(folder)
    with server.locked():
        found = server.state() is DaemonState.RUNNING
        if not found:
            _spawn(server, config, settings)
        try:
            _wait_until_healthy(server, timeout_seconds)
        except ServerAway:
            if not found or server.state() is DaemonState.RUNNING:
                raise
            _spawn(server, config, settings)  # the one that was found was about to end
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
    with server.own():
        listens = state is DaemonState.RUNNING and has_its_port(record)
    return ServerStatus(
        state=state,
        healthy=listens and _answers(record.details["api_url"]),
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
        raise ServerAway(f"no Prefect server was started in {folder}", remedy=START)
    secret = read_secret(folder)
    return {
        **shipped_settings("client"),
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": record.details["api_url"],
        **({"PREFECT_API_AUTH_STRING": secret} if secret else {}),
    }


def link(folder: Path, path: str = "") -> str:
    """Return a link for a person, which signs their browser in and goes on to a page of the UI.

    It is good for some hours; nothing where no server was ever started here.
    """
    record = daemon(folder).record()
    return sign_in_url(record.details["ui_url"], read_secret(folder), path) if record else ""


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


def _spawn(server: Daemon, config: ServerConfig, settings: Mapping[str, str]) -> None:
    if config.auth == NO_AUTH and not _is_loopback(config.host):
        raise RequestRefused(
            f"a Prefect server on {config.host} without a password lets everybody there run commands as you",
            remedy="leave server.auth away for a random one, or set server.host to 127.0.0.1",
        )
    server.new_log()
    previous = server.record()
    port = _choose_port(config, int(previous.details["port"]) if previous else 0)
    # a name may stand for two addresses, of which another program could have one
    bound = "127.0.0.1" if config.host == "localhost" else config.host
    called = _own_name() if bound == "0.0.0.0" else bound  # noqa: S104 - nothing is bound to it here
    host = f"[{called}]" if ":" in called else called
    url = f"http://{host}:{port}"
    folder = server.folder
    secret = make_secret(folder, config.auth)
    environment = clean_environment(
        {
            **shipped_settings("server"),
            **settings,
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_DATABASE_CONNECTION_URL": database_url(folder, config.database),
            "PREFECT_UI_STATIC_DIRECTORY": str(folder / "ui"),
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": url,
            HOSTS_VARIABLE: ",".join([*LOOPBACK, host, *_names_of_this_host(bound), *config.hosts]),
            **({"PREFECT_SERVER_API_AUTH_STRING": secret} if secret else {}),
        }
    )
    server.spawn(
        [sys.executable, "-m", "flows.hosting.prefect_server", "start", "--host", bound, "--port", str(port)],
        environment,
        {"port": str(port), "api_url": f"{url}/api", "ui_url": url},
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_name() -> str:
    """Return how this host is called here and elsewhere; its loopback address where nothing knows its name."""
    try:
        socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    except OSError:
        return "127.0.0.1"
    return socket.gethostname()


def _names_of_this_host(bound: str) -> list[str]:
    """Return by what names others reach a server that listens to more than this host."""
    if _is_loopback(bound):
        return []
    addresses = [address.address for each in psutil.net_if_addrs().values() for address in each]
    names = [socket.gethostname(), socket.getfqdn(), *addresses]
    return [f"[{name.partition('%')[0]}]" if ":" in name else name for name in names]


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
    while not (_listens(server, record.owner, int(record.details["port"])) and _answers(record.details["api_url"])):
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
    if is_alive(record.owner):  # clients see by them, in no time, that it still listens
        server.tell(sockets=sockets_of(record.owner, int(record.details["port"])))


def _listens(server: Daemon, owner: Owner, port: int) -> bool:
    """Whether it is this process that has the port, and not another server that answers there."""
    with server.own():
        return is_alive(owner) is None or bool(sockets_of(owner, port))


def _answers(api_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=HEALTH_TIMEOUT_SECONDS) as response:  # noqa: S310 - its own
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
