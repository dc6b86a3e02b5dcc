"""A real HTCondor of the tests' own: a pool of one node, which is this host, all in its own folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROGRAMS: Final = (
    "condor_master",
    "condor_submit",
    "condor_q",
    "condor_history",
    "condor_rm",
    "condor_status",
    "condor_off",
)
START_SECONDS: Final = 120.0


class HTCondorUnavailable(Exception):
    """None can be started on this machine; the message says what is missing."""


@dataclass(frozen=True)
class HTCondor:
    """A running pool, whose commands find it by :attr:`environment`."""

    folder: Path
    environment: Mapping[str, str]

    def call(self, *argv: str) -> str:
        """Call one of its commands, and return what it prints."""
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            logs = "".join(
                f"\n== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in self.folder.glob("log/*Log")
            )
            raise RuntimeError(f"{argv[0]} exited with {done.returncode}: {done.stderr}{logs}")
        return done.stdout


@contextmanager
def running_htcondor() -> Iterator[HTCondor]:
    """Run a new pool without a job, as an ordinary user: HTCondor carries out nothing as root.

    A command on the PATH may stand for one in another system's root, as far as that sees the same files and processes.

    Raises
    ------
    HTCondorUnavailable
        Its programs are missing.
    RuntimeError
        Where it does not start.
    """
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        raise HTCondorUnavailable(
            f"{', '.join(missing)} of HTCondor are not here; on Debian 13: apt-get install condor"
        )
    folder = Path(tempfile.mkdtemp(prefix="nightmill-htcondor-"))
    for name in ("log", "spool", "execute", "lock", "run"):
        (folder / name).mkdir(mode=0o755)
    (folder / "config").write_text(_POOL.format(folder=folder))
    pool = HTCondor(folder, {**os.environ, "CONDOR_CONFIG": str(folder / "config")})
    with (folder / "told").open("wb") as told:
        master = subprocess.Popen(
            ["condor_master", "-f"], env=pool.environment, stdout=told, stderr=told, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while "Unclaimed" not in _states(pool):
            if master.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"HTCondor does not start: {(folder / 'told').read_text()}")
            time.sleep(0.5)
        yield pool
    finally:
        with suppress(RuntimeError):
            pool.call("condor_off", "-daemon", "master", "-fast")
        try:
            master.wait(60)
        except subprocess.TimeoutExpired:
            master.kill()
            master.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _states(pool: HTCondor) -> str:
    try:
        return pool.call("condor_status", "-af", "State") + pool.call("condor_q", "-af", "ClusterId")
    except RuntimeError:
        return ""


_POOL: Final = """\
LOCAL_DIR = {folder}
LOG = $(LOCAL_DIR)/log
SPOOL = $(LOCAL_DIR)/spool
EXECUTE = $(LOCAL_DIR)/execute
LOCK = $(LOCAL_DIR)/lock
RUN = $(LOCAL_DIR)/run
RELEASE_DIR = /usr
LIB = /usr/lib/condor
LIBEXEC = /usr/libexec/condor
SBIN = /usr/sbin
BIN = /usr/bin
DAEMON_LIST = MASTER, COLLECTOR, NEGOTIATOR, SCHEDD, STARTD
NETWORK_INTERFACE = 127.0.0.1
BIND_ALL_INTERFACES = False
CONDOR_HOST = 127.0.0.1
USE_SHARED_PORT = False
COLLECTOR_HOST = 127.0.0.1:0
COLLECTOR_ADDRESS_FILE = $(LOG)/.collector_address
UID_DOMAIN = tests
FILESYSTEM_DOMAIN = tests
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_ADMINISTRATOR = *
ALLOW_NEGOTIATOR = *
NUM_CPUS = 4
MEMORY = 4000
NUM_SLOTS_TYPE_1 = 1
SLOT_TYPE_1 = 100%
SLOT_TYPE_1_PARTITIONABLE = TRUE
START = TRUE
SUSPEND = FALSE
PREEMPT = FALSE
KILL = FALSE
RANK = 0
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_MIN_INTERVAL = 1
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 2
SCHEDD_MIN_INTERVAL = 1
PERIODIC_EXPR_INTERVAL = 2
UPDATE_INTERVAL = 5
HISTORY = $(SPOOL)/history
"""
