"""Debian's sshd as a process of a test's own, with keys of its own, for the user who runs the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

PROGRAM = shutil.which("sshd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
USER = pwd.getpwuid(os.getuid()).pw_name


@dataclass
class Sshd:
    """A server, and what lets one in.

    Parameters
    ----------
    folder
        Holds its keys, its configuration and its log.
    """

    folder: Path
    options: tuple[str, ...] = ()
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self, path: Path, *, identity: str = "id", trust: str | None = None, more: str = "") -> str:
        """Return the URL of a folder, with the key and the known hosts of the test."""
        trust = f"&known_hosts={self.folder}/known_hosts" if trust is None else trust
        return f"sftp://{USER}@127.0.0.1:{self.port}{path}?identity={self.folder}/{identity}{trust}{more}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the host's key."""
        return key_fingerprint(self.folder / "host")

    @property
    def log(self) -> str:
        """What the server has told."""
        return (self.folder / "log").read_text()

    def start(self) -> None:
        """Start the server, on the port that it had before if it had one."""
        assert PROGRAM is not None
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        if not (self.folder / "host").exists():
            for name in ("host", "id", "stranger"):
                make_key(self.folder / name)
            shutil.copy(self.folder / "id.pub", self.folder / "authorized_keys")
        host_key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        lines = (
            f"ListenAddress 127.0.0.1:{self.port}",
            f"HostKey {self.folder}/host",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 100",
            "PidFile none",
            *(self.options or ("Subsystem sftp internal-sftp",)),
        )
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it shuts in what is not yet let in
        self._process = subprocess.Popen(
            [PROGRAM, "-D", "-f", self.folder / "sshd_config", "-E", self.folder / "log"], stdin=subprocess.DEVNULL
        )
        for _ in range(400):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
                if asked.recv(4) == b"SSH-":
                    return
            assert self._process.poll() is None, self.log
            time.sleep(0.02)
        raise AssertionError(self.log)

    def cut(self) -> int:
        """Kill the processes of every connection that stands, and return how many there were."""
        assert self._process is not None
        mine = psutil.Process(self._process.pid).children(recursive=True)
        for child in mine:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        return len(mine)

    def stop(self) -> None:
        """Stop the server and every connection."""
        if self._process is not None:
            self.cut()
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            self._process = None


def make_key(path: Path, passphrase: str = "") -> None:
    """Make a pair of keys."""
    asked = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "nightmill tests", "-f", str(path)]
    subprocess.run(asked, check=True, stdin=subprocess.DEVNULL)


def key_fingerprint(path: Path) -> str:
    """Return the fingerprint of a pair of keys."""
    told = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], check=True, capture_output=True, text=True)
    return told.stdout.split()[1]


@contextmanager
def running_sshd(folder: Path, *options: str) -> Iterator[Sshd]:
    """Give a server that runs; the test is skipped where none is installed."""
    if PROGRAM is None or shutil.which("ssh-keygen") is None:
        pytest.skip("openssh-server is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    server = Sshd(folder, options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def killed_after(folder: Path, count: int) -> None:
    """Carry out the orders of a folder (``orders.jsonl``), and die after so many answers of an SFTP server."""
    from nightmill.execution.stores import open_stagers
    from nightmill.execution.worker import Worker
    from nightmill.model.node import NodeProfile
    from nightmill.model.order import JobOrder
    from stagers.ssh import Session

    call, left = Session.call, [count]

    def counted(self: Session, *arguments: Any) -> Any:
        try:
            return call(self, *arguments)
        finally:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(Session, "call", counted)  # noqa: B010 - in a process of its own
    orders = [JobOrder.model_validate_json(line) for line in (folder / "orders.jsonl").read_text().splitlines()]
    with Worker(
        NodeProfile(scratch=folder / "scratch", spool=folder / "spool"), open_stagers(orders[0].stores, {})
    ) as worker:
        list(worker.run(orders))
