"""A step reaches no service that it does not declare: by TCP, by UDP, by sockets of this host."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nightmill.execution.confine.seccomp import filter_of
from tests.support.confined import attempt
from tests.support.orders import Bench
from tests.support.postgres import PostgresServer

CODE = (
    "import socket, ctypes\n"
    "PORT, OTHER, POSTGRES, PATH, ABSTRACT = {port}, {other}, {postgres!r}, {path!r}, {abstract!r}\n"
    "def by(family, kind, protocol, address):\n"
    "    with socket.socket(family, kind, protocol) as one:\n"
    "        one.connect(address)\n"
    "def listening(*, bound):\n"
    "    with socket.socket() as one:\n"
    "        if bound:\n"
    "            one.bind(('127.0.0.1', 0))\n"
    "        one.listen()\n"
    "def fast(port):\n"
    "    with socket.socket() as one:\n"
    "        one.sendto(b'x', 0x20000000, ('127.0.0.1', port))\n"
    "def bound(family, kind, address):\n"
    "    with socket.socket(family, kind) as one:\n"
    "        one.bind(address)\n"
    "def asked(number, *arguments):\n"
    "    c = ctypes.CDLL(None, use_errno=True)\n"
    "    if c.syscall(number, *arguments) < 0:\n"
    "        raise OSError(ctypes.get_errno(), '')\n"
    "HERE = '127.0.0.1'\n"
    "WAYS = {{\n"
    "    'tcp': lambda: by(socket.AF_INET, socket.SOCK_STREAM, 0, (HERE, PORT)),\n"
    "    'another port': lambda: by(socket.AF_INET, socket.SOCK_STREAM, 0, (HERE, OTHER)),\n"
    "    'mptcp': lambda: by(socket.AF_INET, socket.SOCK_STREAM, 262, (HERE, OTHER)),\n"
    "    'udp': lambda: by(socket.AF_INET, socket.SOCK_DGRAM, 0, (HERE, PORT)),\n"
    "    'raw': lambda: by(socket.AF_INET, socket.SOCK_RAW, 1, (HERE, 0)),\n"
    "    'without a connection': lambda: fast(OTHER),\n"
    "    'a server': lambda: listening(bound=True),\n"
    "    'a server on any port': lambda: listening(bound=False),\n"
    "    'postgresql': lambda: by(socket.AF_UNIX, socket.SOCK_STREAM, 0, POSTGRES),\n"
    "    'a socket of the host': lambda: by(socket.AF_UNIX, socket.SOCK_STREAM, 0, PATH),\n"
    "    'an abstract socket': lambda: by(socket.AF_UNIX, socket.SOCK_STREAM, 0, ABSTRACT),\n"
    "    'a socket of its own': lambda: bound(socket.AF_UNIX, socket.SOCK_STREAM, 'own'),\n"
    "    'packets': lambda: bound(socket.AF_PACKET, socket.SOCK_RAW, ('lo', 3)),\n"
    "    'virtual machine': lambda: by(socket.AF_VSOCK, socket.SOCK_STREAM, 0, (2, PORT)),\n"
    "    'pair': lambda: socket.socketpair(),\n"
    "}}\n"
    "for name, way in WAYS.items():\n"
    "    print(end=name + ': ')\n"
    "    tried(way)\n"
)
NOTHING = {"pair"}


@pytest.fixture
def places(postgres: PostgresServer, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Give a port that listens, another, a socket of PostgreSQL, and an abstract one."""
    abstract = f"\0nightmill-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as named,
    ):
        unix.bind(abstract)
        unix.listen()
        named.bind(str(tmp_path / "socket"))
        named.listen()
        yield {
            "port": one.getsockname()[1],
            "other": other.getsockname()[1],
            "path": str(tmp_path / "socket"),
            "postgres": str(next(postgres.socket_directory.glob(".s.PGSQL.*[0-9]"))),
            "abstract": abstract,
        }


@pytest.mark.req("B41")
@pytest.mark.parametrize(
    ("keys", "open_"),
    [
        ({}, NOTHING),
        ({"network": "port"}, NOTHING | {"tcp"}),
        ({"sockets": True}, NOTHING | {"a socket of the host", "a socket of its own"}),
        (
            {"network": "on"},
            NOTHING
            | {"tcp", "another port", "mptcp", "udp", "without a connection", "a server", "a server on any port"},
        ),
    ],
    ids=["off", "a port", "sockets", "on"],
)
def test_what_of_the_network_a_step_reaches(
    bench: Bench, places: dict[str, Any], keys: dict[str, Any], open_: set[str]
) -> None:
    if keys.get("network") == "port":
        keys = {"network": (places["port"],)}
    said = attempt(bench, CODE.format(**places), **keys).said
    told = dict(line.split(": ", 1) for line in said)
    if keys.get("sockets"):
        del told["postgresql"]  # then it is for the server to say who may come in
    assert {name for name, how in told.items() if how != "denied"} == open_, said
    assert {told[name] for name in open_ - {"mptcp"}} == {"reached"}, "where the kernel has it"


CALLS = {
    "io_uring_setup": (425, 1, 0),
    "clone3": (435, 0, 0),
    "unshare": (272, 0x10000000),
    "mount": (165, 0, 0, 0, 0, 0),
    "open_tree": (428, -100, 0, 0),
    "bpf": (321, 0, 0, 0),
    "userfaultfd": (323, 0),
    "keyctl": (250, 0, -3, 0),
    "open_by_handle_at": (304, -100, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "of x32": (0x40000000 + 39,),
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the calls are those of x86_64")
@pytest.mark.parametrize("network", ["off", "on"])
def test_calls_that_lead_out_are_denied(bench: Bench, network: str) -> None:
    code = (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        f"for name, call in {CALLS!r}.items():\n"
        "    c.syscall(*call)\n    print(name, errno.errorcode[ctypes.get_errno()])\n"
        "print('clone', c.syscall(56, 0x10000000 | 17, 0, 0, 0, 0), errno.errorcode[ctypes.get_errno()])\n"
    )
    absent = ("io_uring_setup", "clone3", "of x32")
    wanted = [f"{name} {'ENOSYS' if name in absent else 'EPERM'}" for name in CALLS]
    assert attempt(bench, code, network=network).said == [*wanted, "clone -1 EPERM"]


def test_threads_processes_and_shared_memory_as_declared(bench: Bench) -> None:
    code = (
        "import multiprocessing, concurrent.futures as futures\n"
        "def twice(number):\n    return 2 * number\n"
        "with futures.ThreadPoolExecutor(4) as pool:\n    print(sum(pool.map(twice, range(10))))\n"
        "tried(multiprocessing.Lock)\n"
        "if os.access('/dev/shm', os.W_OK) and SHARED:\n"
        "    with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "        print(sum(pool.map(twice, range(10))))\n"
    )
    assert attempt(bench, f"SHARED = False\n{code}").said == ["90", "denied"]
    other = Bench(bench.root / "other")
    assert attempt(other, f"SHARED = True\n{code}", shared_memory=True).said == ["90", "reached", "90"]


def test_filters_are_small_and_differ() -> None:
    filters = {filter_of(network, sockets) for network in ("off", "on", (443,)) for sockets in (False, True)}
    assert len(filters) == 6
    assert all(len(each) % 8 == 0 and 0 < len(each) // 8 < 192 for each in filters)
