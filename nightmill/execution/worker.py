"""A worker: the one way in which orders are carried out. Orders and a profile of its host in, a journal out.

It needs no database, no server and no site: a slice has one in its own process, ``nightmill run`` another, and a batch
system starts one as ``python -m nightmill.execution.worker``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from nightmill.clock import Clock, utc_now
from nightmill.config.secrets import read_secrets
from nightmill.errors import ConfigError, NightmillError
from nightmill.execution.bundles import BundleCache
from nightmill.execution.context import JobContext
from nightmill.execution.host import Host, this_host
from nightmill.execution.jobs import run_jobs
from nightmill.execution.journal import JournalWriter
from nightmill.execution.stores import open_stagers
from nightmill.execution.transfers import Transfers
from nightmill.model.journal import Entry
from nightmill.model.node import NodeProfile
from nightmill.model.order import AttemptKey, JobOrder
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState
from nightmill.model.store import Store


class Worker:
    """Carries out orders on this host; use it as a context. Its methods are safe for use by several threads.

    Parameters
    ----------
    profile
        Where it works, and what it may use.
    stagers
        What moves bytes to and from each store that its orders name.
    listener
        Called with each entry of its journal, by whichever thread writes it.
    """

    def __init__(
        self,
        profile: NodeProfile,
        stagers: Mapping[str, Stager],
        *,
        listener: Callable[[Entry], None] | None = None,
        now: Clock = utc_now,
        host: Host | None = None,
    ) -> None:
        self.profile = profile
        self.journal = JournalWriter(profile.spool, listener=listener)
        host = host or this_host(profile.cores)
        self._context = JobContext(
            stagers,
            profile.scratch,
            self.journal,
            BundleCache(profile.cache or profile.spool / "cache"),
            profile.keep_scratch,
            now,
            host,
            transfers=Transfers(profile.spool, host.name, profile.transfers),
        )

    def claim(self, attempts: Iterable[AttemptKey]) -> set[AttemptKey]:
        """Claim attempts, and return those that others have: they are not this worker's to carry out."""
        return set(self.journal.claim(attempts))

    def run(self, orders: Iterable[JobOrder]) -> Iterator[JobReport]:
        """Carry out orders one after another, as :func:`nightmill.execution.jobs.run_jobs` says."""
        return run_jobs(orders, self._context)

    def stop(self, why: str) -> None:
        """End the steps that run, and begin none any more; whoever carries out orders gets their reports."""
        self._context.stopping = why

    @property
    def stopping(self) -> str:
        """Why it was told to end; empty where it was not."""
        return self._context.stopping

    def close(self) -> None:
        """Make everything durable that its journal was told, and end and remove what it keeps for its jobs."""
        self._context.warm.close()
        self._context.bundles.close()
        self.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_profile(path: Path) -> NodeProfile:
    """Read a profile.

    Raises
    ------
    ConfigError
        Where it is not one; with the file and the key.
    """
    try:
        return NodeProfile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the profile cannot be read: {error.strerror}", where=str(path)) from None
    except ValidationError as error:
        raise _not_one("a profile of a host", str(path), error) from error


def read_orders(path: Path) -> Iterator[JobOrder]:
    """Read orders, one a line.

    Raises
    ------
    ConfigError
        Where the file cannot be read, or a line is not an order; with the line and the key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"the orders cannot be read: {error.strerror}", where=str(path)) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield JobOrder.model_validate_json(line)
            except ValidationError as error:
                raise _not_one("an order", f"{path}:{number}", error) from error


def _not_one(what: str, where: str, error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the whole"
    return ConfigError(f"this is not {what}: {key}: {first['msg']}", where=where)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the orders of a file and say where the journal is; return 1 where some attempt published nothing."""
    parser = argparse.ArgumentParser(prog="python -m nightmill.execution.worker", description=main.__doc__)
    parser.add_argument("orders", type=Path, help="a file of orders, one a line")
    parser.add_argument("--profile", type=Path, required=True, help="the profile of this host, JSON")
    parser.add_argument("--secrets-fd", type=int, help="an inherited descriptor to read secrets from")
    given = parser.parse_args(arguments)
    try:
        profile = read_profile(given.profile)
        orders = list(read_orders(given.orders))
        stores: dict[str, Store] = {name: store for order in orders for name, store in order.stores.items()}
        source = given.secrets_fd if given.secrets_fd is not None else profile.secrets
        secrets = {**os.environ, **(read_secrets(source) if source is not None else {})}
        os.umask(profile.access.umask)
        with Worker(profile, open_stagers(stores, secrets)) as worker:
            print(worker.journal.path, flush=True)
            reports = list(worker.run(orders))
    except NightmillError as error:
        print(f"nightmill: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if all(report.state is AttemptState.PUBLISHED for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
