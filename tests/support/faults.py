"""A proxy that does to a connection what networks do: slow, cut, altered, lost."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

CHUNK: Final = 1 << 16


@dataclass
class Proxy:
    """Hands on what comes, to a server on this machine, with the faults that are set on it at the time."""

    port: int
    server: int
    cut_after: int | None = None
    """Bytes of an answer after which the connection breaks off."""
    cuts: int = 1 << 30
    """How many are cut still."""
    pause_seconds: float = 0.0
    """Before each piece of an answer is handed on."""
    up: tuple[bytes, bytes] = (b"", b"")
    """What is exchanged in requests, for something as long."""
    down: tuple[bytes, bytes] = (b"", b"")
    """The same in answers."""
    loses: Callable[[bytes], bool] | None = None
    """Whether the answer to a request is lost, after the server did what it asked."""
    lost: list[bytes] = field(default_factory=list)
    """First lines of the requests whose answers were lost."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def proxy_of(server: int) -> Iterator[Proxy]:
    """Give a proxy of a port of this machine, without a fault as yet."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(listener.getsockname()[1], server)
    accepting = threading.Thread(target=_accept, args=(listener, proxy), daemon=True)
    accepting.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()


def _accept(listener: socket.socket, proxy: Proxy) -> None:
    with suppress(OSError):
        while True:
            client, _address = listener.accept()
            server = socket.create_connection(("127.0.0.1", proxy.server))
            losing = threading.Event()
            for target, arguments in (
                (_hand_up, (client, server, proxy, losing)),
                (_hand_down, (server, client, proxy, losing)),
            ):
                threading.Thread(target=target, args=arguments, daemon=True).start()


def _hand_up(client: socket.socket, server: socket.socket, proxy: Proxy, losing: threading.Event) -> None:
    with suppress(OSError):
        while data := client.recv(CHUNK):
            if proxy.loses is not None and proxy.loses(data):
                proxy.lost.append(data.partition(b"\r\n")[0])
                losing.set()
            server.sendall(data.replace(*proxy.up) if proxy.up[0] else data)
    _close(server, client)


def _hand_down(server: socket.socket, client: socket.socket, proxy: Proxy, losing: threading.Event) -> None:
    passed = 0
    with suppress(OSError):
        while data := server.recv(CHUNK):
            if losing.is_set():
                break
            if proxy.pause_seconds:
                time.sleep(proxy.pause_seconds)
            passed += len(data)
            if proxy.cut_after is not None and passed > proxy.cut_after and proxy.cuts > 0:
                proxy.cuts -= 1
                client.sendall(data[: proxy.cut_after - passed])
                break
            client.sendall(data.replace(*proxy.down) if proxy.down[0] else data)
    _close(server, client)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
