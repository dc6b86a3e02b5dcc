"""Whose process listens at the address of a site's Prefect server.

A port that a dead server has left is free for any program of any user of the host, which would be sent the secret.
Nothing here imports Prefect.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psutil

from flows.hosting.daemon import Daemon, DaemonRecord, DaemonState
from nightmill.errors import ServerAway
from nightmill.execution.owner import host_name, is_alive
from nightmill.model.journal import Owner

START: Final = "start it with `nightmill server start`"


def require_own(server: Daemon) -> None:
    """Make sure that what is sent to the server's address now comes to the site's own process; takes no time.

    Raises
    ------
    ServerAway
        Where its process is gone or has not got its port, or may not be looked at.
    """
    record = server.record()
    if record is None or record.stopped or is_alive(record.owner) is False:
        raise unusable(server)
    with server.own():
        if has_its_port(record):
            return
    if record.owner.host != host_name():
        raise ServerAway(
            f"the Prefect server of {site_of(server)} runs on host {record.owner.host!r}, and listens to it alone",
            remedy="go there, or set server.host to an address that others can reach",
        )
    raise unusable(server)


def unusable(server: Daemon) -> ServerAway:
    """Return what to tell of a server that cannot be used: what is known of it, and what to do."""
    record, state = server.record(), server.state()
    if record is None or state is not DaemonState.RUNNING:
        return ServerAway(f"the Prefect server of {site_of(server)} is {state}", remedy=START)
    return ServerAway(
        f"the Prefect server of {site_of(server)} runs (pid {record.owner.pid} on host {record.owner.host!r}) and does "
        f"not answer at {record.details['api_url']}",
        remedy=f"wait a moment; if it stays so, look at {server.log}, then `nightmill server stop` and start it again",
    )


def site_of(server: Daemon) -> Path:
    """Return the site whose server this is."""
    return server.folder.parent.parent


def refuse_strangers(server: Daemon) -> None:
    """Let this process, and what it forks, connect to a server's address only as long as the server listens there.

    This is for the clients of Prefect, which connect by themselves, again and again, and send the secret to whoever
    answers. It cannot be undone.
    """
    record = server.record()
    assert record is not None  # this process has its address
    host, port = _address(record)
    addresses = {host, *(info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))}

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event != "socket.connect":
            return
        match arguments[1]:
            case (str(to), int(number), *_) if number == port and to in addresses:
                try:
                    require_own(server)
                except ServerAway as error:
                    raise ConnectionRefusedError(errno.ECONNREFUSED, str(error)) from error

    sys.addaudithook(audit)


def has_its_port(record: DaemonRecord) -> bool:
    """Whether a server's own process still listens where it did; of another host, whether it may be meant at all.

    Raises
    ------
    PermissionError
        Where the process is another user's.
    """
    if record.owner.host != host_name():
        return not is_of_one_host(_address(record)[0])
    sockets = [each.split(":") for each in record.details.get("sockets", "").split()]
    try:
        return bool(sockets) and all(_inode(record.owner.pid, int(number)) == inode for number, inode in sockets)
    except FileNotFoundError:
        return False


def sockets_of(owner: Owner, port: int) -> str:
    """Return by what a process of this host listens at a port: ``descriptor:inode``, with blanks between.

    Raises
    ------
    psutil.AccessDenied
        Where the process is another user's.
    """
    try:
        found = [
            connection.fd
            for connection in psutil.Process(owner.pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ]
        return " ".join(f"{number}:{_inode(owner.pid, number)}" for number in found)
    except (psutil.NoSuchProcess, FileNotFoundError):
        return ""


def is_of_one_host(host: str) -> bool:
    """Whether an address means the host that it is used on, as those of the loopback interface do."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_unspecified


def _inode(pid: int, number: int) -> str:
    """Return which socket a process has under a number; a socket keeps its inode as long as it lives."""
    return str(Path(f"/proc/{pid}/fd/{number}").readlink()).removeprefix("socket:[").removesuffix("]")


def _address(record: DaemonRecord) -> tuple[str, int]:
    parts = urlsplit(record.details["api_url"])
    return parts.hostname or "", parts.port or 0
