"""Clusters of Dask that are a site's own: one an engine and host, which slices share and the next one finds again."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from nightmill.errors import BadPlugin, EngineAway, RequestRefused
from nightmill.execution.evidence import readable
from nightmill.execution.owner import host_name, is_alive
from nightmill.model.base import Frozen, canonical_json
from nightmill.model.journal import Owner

CLUSTERS: Final = "dask"
"""Folder of the spool: a folder a cluster."""
START_SECONDS: Final = 120.0
OPTIONS: Final = "options.json"
_LOG: Final = "log"
_LOCK: Final = "lock"
_TOLD: Final = "told.json"
_CERTIFICATE: Final = "certificate.pem"
_KEY: Final = "key.pem"
_BATCH_KEYS: Final = ("queue", "account", "cores", "memory_bytes", "wall_seconds", "options", "interface", "python")


class Workers(Frozen):
    """How many workers a cluster has: as many as there is work for, within these bounds."""

    least: int = Field(default=0, ge=0)
    """Those that stay, though there is nothing to do."""
    most: int = Field(ge=1)
    """More there never are."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least is {self.least}, which is more than most: {self.most}")
        return self


class DaskOptions(Frozen):
    """Which scheduler: one that runs already, or one of the site's own."""

    address: str = ""
    """Of a scheduler that runs: ``tcp://head:8786``."""
    workers: Annotated[int, Field(ge=0)] | Workers = 0
    """Instead, how many workers a cluster of the site's own has, or between how many."""
    cluster: Literal["local", "slurm", "htcondor"] = "local"
    """Where the workers of an own cluster are: on the host of the slice, or each a job of a batch system."""
    queue: str = ""
    """The partition of Slurm that workers are submitted to; its default where there is none."""
    account: str = ""
    """Who pays; the user's default where there is none."""
    cores: int = Field(default=1, ge=1)
    """Cores that a worker asks the batch system for."""
    memory_bytes: int = Field(default=2_000_000_000, ge=1)
    """Memory that a worker asks the batch system for."""
    wall_seconds: float = Field(default=3600.0, gt=0)
    """How long a worker asks Slurm to run; what it has then is lost with it."""
    options: tuple[str, ...] = ()
    """Further options of ``sbatch``, as they are, or lines of a submit file of HTCondor: ``+Project = "survey"``."""
    interface: str = ""
    """The network interface by which scheduler and workers reach each other: ``ib0``."""
    python: str = ""
    """The interpreter on the nodes that has nightmill; the one of the slice where there is none."""
    keep_seconds: float = Field(default=30.0, gt=0)
    """So long an own cluster is kept that no slice uses, and a worker that has nothing to do."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.address) == bool(self.workers):
            raise ValueError("it has an address or a number of workers, one of the two")
        said = [key for key in _BATCH_KEYS if key in self.model_fields_set]
        if said and self.cluster == "local":
            raise ValueError(f"{said[0]} is for workers of a batch system: say cluster: slurm")
        if self.address and self.cluster != "local":
            raise ValueError(f"cluster: {self.cluster} is for workers of its own, and it has an address")
        if self.cluster == "htcondor" and (no := {"queue", "wall_seconds"} & self.model_fields_set):
            raise ValueError(f"{min(no)} is for Slurm: HTCondor has none, say what it wants to hear in options")
        return self

    @property
    def bounds(self) -> Workers | None:
        """How many workers an own cluster has; None where it is not an own one."""
        if isinstance(self.workers, Workers):
            return self.workers
        return Workers(least=self.workers, most=self.workers) if self.workers else None


class Told(Frozen):
    """What the keeper of a cluster tells, once it has one or has none."""

    owner: Owner
    """The keeper."""
    address: str = ""
    """Of the scheduler."""
    refused: str = ""
    """Why there is none."""
    remedy: str = ""


def package(engine: str, name: str, extra: str) -> Any:
    """Import a package, whose functions have no types.

    Raises
    ------
    BadPlugin
        Where it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        what = f"engine {engine!r} needs the package {name}: {error}"
        raise BadPlugin(what, remedy=f"install nightmill[{extra}]") from error


class ClusterFolder:
    """Where a cluster is known by: its folder in the spool, which its workers see, and nobody but the user.

    Parameters
    ----------
    folder
        Which may not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, spool: Path, engine: str, options: DaskOptions) -> Self:
        """Return that of an engine: another one as soon as anything of it is changed."""
        digest = sha256(canonical_json(options.model_dump(mode="json")).encode()).hexdigest()
        return cls(spool / CLUSTERS / f"{engine}-{host_name()}-{digest[:10]}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have nobody else start, find or end the cluster meanwhile."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @property
    def address(self) -> str:
        """Where its scheduler is; empty where it does not run.

        Raises
        ------
        RequestRefused
            Where its keeper could not start it.
        """
        try:
            told = Told.model_validate_json((self.folder / _TOLD).read_text())
        except (FileNotFoundError, ValidationError):
            return ""
        if told.refused:
            raise RequestRefused(told.refused, remedy=told.remedy)
        return told.address if is_alive(told.owner) else ""

    def tell(self, told: Told) -> None:
        """Tell where the scheduler is."""
        unnamed = self.folder / f".{_TOLD}"
        unnamed.write_text(told.model_dump_json())
        unnamed.replace(self.folder / _TOLD)

    def forget(self) -> None:
        """Tell nothing any more."""
        for name in (_TOLD, _CERTIFICATE, _KEY):
            (self.folder / name).unlink(missing_ok=True)

    def start(self, engine: str, options: DaskOptions) -> str:
        """Start a cluster, whose keeper outlives this process, and return its address; nobody else does meanwhile.

        Raises
        ------
        RequestRefused
            Where it cannot be.
        EngineAway
            Where that takes too long.
        """
        self.forget()
        (self.folder / OPTIONS).write_text(options.model_dump_json(exclude_unset=True))
        log = self.folder / _LOG
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-m", "nightmill.engines.dask_keeper", engine, str(self.folder)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not (address := self.address):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended and not self.address:
                said = readable(log.read_text(errors="replace")).strip().splitlines()
                why = said[-1] if said else f"its keeper exited with code {os.waitstatus_to_exitcode(status)}"
                raise RequestRefused(f"engine {engine!r} cannot start its cluster: {why}", remedy=f"see {log}")
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGTERM)
                what = f"the cluster of engine {engine!r} did not start within {START_SECONDS:g} s"
                raise EngineAway(what, remedy=f"see {log}")
            time.sleep(0.05)
        return address

    def security(self, engine: str) -> Any:
        """Return what lets a process into the cluster, and nobody else's."""
        certificate, key = str(self.folder / _CERTIFICATE), str(self.folder / _KEY)
        roles = ("client", "worker", "scheduler")
        return package(engine, "distributed", "dask").Security(
            require_encryption=True,
            tls_ca_file=certificate,
            **{f"tls_{role}_cert": certificate for role in roles},
            **{f"tls_{role}_key": key for role in roles},
        )

    def make_security(self, engine: str) -> Any:
        """Make what lets processes in anew, and return it."""
        made = package(engine, "distributed", "dask").Security.temporary().get_tls_config_for_role("client")
        for name, text in ((_CERTIFICATE, made["ca_file"]), (_KEY, made["key"])):
            path = self.folder / name
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(text)
        return self.security(engine)
