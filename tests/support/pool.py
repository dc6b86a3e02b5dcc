"""A site whose work pool runners serve, on two hosts: the second has a name of its own, and this kernel.

The site's own runner is stopped, so that all is conducted by the runners. Its catalogue must be PostgreSQL.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from flows.hosting import service
from flows.hosting.daemon import Daemon
from flows.hosting.runners import daemons
from nightmill.config.server import ServerConfig
from tests.support import prefect_database

ROOT: Final = Path(__file__).parents[2]
SECOND: Final = "node2"


@dataclass(frozen=True)
class Pool:
    """A site that runners serve."""

    site: Path

    def on(self, host: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Type ``nightmill ARGUMENTS --site SITE`` on a host; on this one with no name."""
        there = [*_unshare(), "sh", "-c", 'hostname "$0" && exec "$@"', host] if host else []
        return subprocess.run(
            [*there, *self._typed(*arguments)],
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    @contextmanager
    def container(self, host: str, log: Path, *arguments: str, bound: Sequence[Path]) -> Iterator[None]:
        """Give a container that becomes a runner, as the recipes have it; it is killed at the end.

        It has a name and processes of its own. Its root is read-only but for the site and what is bound, and its
        ``/tmp`` is empty.
        """
        inside = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        inside += [part for path in (str(ROOT), sys.prefix) for part in ("--ro-bind", path, path)]  # if below /tmp
        inside += [part for path in (self.site, *bound) for part in ("--bind", str(path), str(path))]
        inside += [
            "--die-with-parent",
            "--unshare-pid",
            "--unshare-uts",
            *(["--unshare-user"] if os.geteuid() else []),
            "--hostname",
            host,
        ]
        runner = ("runner", "start", "--foreground", "--alone", "--server", self.server_url, *arguments)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*inside, *self._typed(*runner)], env={**_environment(), "HOME": "/tmp"}, stdout=output, stderr=output
            )
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def _typed(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "nightmill", *arguments, "--site", str(self.site)]

    @property
    def server_url(self) -> str:
        """Where the server is reached from here: the hosts have one network."""
        return service.status(self.site).server.api_url

    def start(self, host: str, *queues: str) -> dict[str, Any]:
        """Start the runner of a host, and return how it is."""
        options = [part for queue in queues for part in ("--queue", queue)]
        done = self.on(host, "runner", "start", "--server", self.server_url, *options, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def runners(self) -> list[dict[str, Any]]:
        """Return what ``server status`` tells of them."""
        found: list[dict[str, Any]] = json.loads(self.on("", "server", "status", "--json").stdout)["runners"]
        return found

    def kill(self, host: str) -> None:
        """Have a host's runner, and all that it started, be gone from one moment to the next."""
        for runner in daemons(self.site):
            record = runner.record()
            if record is not None and record.owner.host == host:
                with suppress(psutil.NoSuchProcess):
                    process = psutil.Process(record.owner.pid)
                    for each in [process, *process.children(recursive=True)]:
                        with suppress(psutil.NoSuchProcess):
                            each.kill()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


@cache
def _unshare() -> list[str]:
    """Return what gives a command a name of its host of its own; a user who may not needs to be root in it."""
    for each in (["unshare", "--uts"], ["unshare", "--uts", "--map-root-user"]):
        if subprocess.run([*each, "true"], capture_output=True, check=False).returncode == 0:
            return each
    pytest.skip("no process here can have another host name")


@contextmanager
def two_runners(site: Path, prefect_template: Path, *queues: str) -> Iterator[Pool]:
    """Have two runners serve a site's pool, on two hosts; the first one its campaigns, too.

    Parameters
    ----------
    queues
        What each of them serves beside; slices, as the site says, by default.
    """
    pool = Pool(site)
    prefect_database.give(site, prefect_template)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        try:
            service.start(site, ServerConfig())
            Daemon(service.folder_of(site), "runner").stop(service.RUNNER_STOP_SECONDS)
            pool.start("", "campaigns", *(queues or ("slices",)))
            pool.start(SECOND, *(queues or ("slices",)))
            yield pool
        finally:
            pool.on("", "runner", "stop")
            pool.on(SECOND, "runner", "stop")
            pool.kill(SECOND)
            service.stop(site)
