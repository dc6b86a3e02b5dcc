"""Debian's syslog-ng as a process of a test's own: a real receiver of lines of JSON, as Logstash is one."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("syslog-ng", path="/usr/sbin:/usr/bin")
START_SECONDS = 60


@dataclass
class SyslogNg:
    """A receiver, and what it has written.

    Parameters
    ----------
    folder
        Holds its configuration and its file.
    """

    folder: Path
    tls: bool = False
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"{'tls' if self.tls else 'tcp'}://localhost:{self.port}"

    @property
    def written(self) -> Path:
        return self.folder / "received.jsonl"

    def received(self) -> list[dict[str, Any]]:
        """Return what it has received, but half a last line of a process that was killed."""
        whole = self.written.read_text().rpartition("\n")[0].splitlines() if self.written.exists() else []
        found = []
        for line in whole:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # it was killed in the middle of it, and its successor went on behind
        return found

    def start(self) -> None:
        """Start it, on the port that it had before if it had one."""
        assert PROGRAM is not None
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        options = f'ip("127.0.0.1") port({self.port}) flags(no-parse) log-msg-size(262144)'
        if self.tls:
            pair = f'key-file("{self.folder}/key.pem") cert-file("{self.folder}/cert.pem")'
            options += f' transport("tls") tls({pair} peer-verify(optional-untrusted))'
        (self.folder / "syslog-ng.conf").write_text(
            "@version: 3.38\noptions { stats-freq(0); };\n"
            f"source lines {{ network({options}); }};\n"
            f'destination file {{ file("{self.written}" template("${{MESSAGE}}\\n")); }};\n'
            "log { source(lines); destination(file); };\n"
        )
        argv = [PROGRAM, "-F", "--no-caps", f"--cfgfile={self.folder}/syslog-ng.conf"]
        argv += [f"--{name}={self.folder}/{name}" for name in ("persist-file", "pidfile", "control")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "syslog-ng does not listen"
                time.sleep(0.05)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it as it is."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None


@contextmanager
def syslog_ng(folder: Path, *, tls: bool = False) -> Iterator[SyslogNg]:
    """Give a receiver that listens; the test is skipped where the machine has none."""
    if PROGRAM is None:
        pytest.skip("syslog-ng is not installed: apt-get install syslog-ng-core")
    folder.mkdir()
    if tls:
        make_authority(folder)
    receiver = SyslogNg(folder, tls)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.kill()


def make_authority(folder: Path) -> None:
    """Make an authority ``ca.pem``, and ``cert.pem`` with ``key.pem`` of localhost that it vouches for."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test authority")
    openssl("req", *key[:3], "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "2")
    openssl("x509", "-req", "-in", "request.pem", *signed, "-out", "cert.pem")
