"""A worker: the one way in which orders are carried out. Orders and a profile of its host in, a journal out.

It needs no database, no server and no site: a slice has one in its own process, ``nightmill run`` another, and an
engine starts one for each dispatch as ``python -m nightmill.execution.worker --dispatch DIR``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, Self

from nightmill import __version__
from nightmill.clock import Clock, utc_now
from nightmill.config.secrets import read_secrets
from nightmill.errors import NightmillError, RequestRefused
from nightmill.execution.bundles import BundleCache
from nightmill.execution.confine.confiner import Confiner, tried
from nightmill.execution.context import JobContext
from nightmill.execution.dispatches import ORDERS, PROFILE, Dispatched
from nightmill.execution.host import Host, this_host
from nightmill.execution.jobs import run_jobs
from nightmill.execution.journal import JournalWriter, SpoolAway
from nightmill.execution.launch.containers.opened import OpenedContainers
from nightmill.execution.launch.warm import Servers
from nightmill.execution.logs.lines import LineSpool
from nightmill.execution.orders import read_orders, read_profile
from nightmill.execution.owner import host_name, this_process
from nightmill.execution.probing import see
from nightmill.execution.scratch import Scratch
from nightmill.execution.sealing import Chain, Key
from nightmill.execution.stores import open_stagers
from nightmill.execution.transfers import Transfers
from nightmill.model.confinement import Use
from nightmill.model.dispatch import Ending
from nightmill.model.error_rule import ErrorRule
from nightmill.model.fate import Fate
from nightmill.model.journal import Entry
from nightmill.model.node import NodeProfile
from nightmill.model.order import AttemptKey, JobOrder
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState
from nightmill.model.store import Store

LISTEN_SECONDS: Final = 1.0
"""How often a worker looks whether its dispatch is to end, or was ended for it."""
SUPERSEDED: Final = "its dispatch was ended for it"


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
    dispatched
        The dispatch that it carries out, where it does one.
    """

    def __init__(
        self,
        profile: NodeProfile,
        stagers: Mapping[str, Stager],
        *,
        listener: Callable[[Entry], None] | None = None,
        now: Clock = utc_now,
        host: Host | None = None,
        dispatched: Dispatched | None = None,
    ) -> None:
        self.profile = profile
        key = Key(profile.signing_key) if profile.signing_key is not None else None
        name = dispatched.name if dispatched is not None else ""
        self.journal = JournalWriter(profile.spool, listener=listener, dispatch=name)
        host = host or this_host(profile.cores)
        cache, confiner = profile.cache or profile.spool / "cache", Confiner.of(profile)
        self._context = JobContext(
            stagers,
            profile.scratch,
            self.journal,
            BundleCache(cache),
            profile.keep_scratch,
            now,
            host,
            transfers=Transfers(profile.spool, host.name, profile.transfers),
            containers=OpenedContainers(profile.containers, cache),
            network_paths=profile.network_paths,
            software=profile.software,
            chain=Chain(self.journal.name, key) if key is not None else None,
            confiner=confiner,
            warm=Servers(confiner.limits, confiner.grouped),
            superseded=(lambda: False) if dispatched is None else lambda: dispatched.is_over,
            is_guest=dispatched is not None,
            logs=profile.logs,
            errors=profile.errors,
            line_spool=LineSpool(profile.spool, self.journal.name, host.name, profile.logs.spool_bytes, now)
            if profile.logs.lines
            else None,
        )

    def claim(self, attempts: Iterable[AttemptKey]) -> set[AttemptKey]:
        """Claim attempts, and return those that others have: they are not this worker's to carry out."""
        return set(self.journal.claim(attempts))

    def run(self, orders: Iterable[JobOrder]) -> Iterator[JobReport]:
        """Carry out orders one after another, as :func:`nightmill.execution.jobs.run_jobs` says."""
        return run_jobs(orders, self._context)

    def learn(self, errors: Iterable[ErrorRule]) -> None:
        """Look for these errors, in the place of others, in what steps print that fail from now on."""
        said = tuple(error for error in errors if error.says)
        if said != self._context.errors:
            self._context.errors = said
            self.profile = self.profile.model_copy(update={"errors": said})

    def stop(self, why: str) -> None:
        """End the steps that run, and begin none any more; whoever carries out orders gets their reports."""
        self._context.stopping = why

    @property
    def stopping(self) -> str:
        """Why it was told to end; empty where it was not."""
        return self._context.stopping

    @property
    def refused(self) -> str:
        """Why it begins nothing any more, where a step would have run with software that the site does not let in."""
        return self._context.refused

    def close(self) -> None:
        """Make everything durable that its journal was told, and end and remove what it keeps for its jobs."""
        self._context.warm.close()
        self._context.confiner.close()
        self._context.bundles.close()
        if self._context.line_spool is not None:
            self._context.line_spool.close()
        self.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def carry_out(dispatched: Dispatched, secrets: Path | int | None = None) -> bool:
    """Carry out a dispatch, unless somebody has it: the function that an engine calls, in a process of its own or not.

    It ends before its time where it is told to stop, and publishes nothing any more where it was ended for it.

    Parameters
    ----------
    secrets
        A file or an inherited descriptor, in the place of what the profile names.

    Returns
    -------
    bool
        Whether every attempt was published.

    Raises
    ------
    NightmillError
        Where it could not begin, because its host lacks something, or its files are not what they should be: the
        dispatch is over then.
    nightmill.execution.journal.SpoolAway
        Where this host does not see the spool.
    nightmill.execution.context.Superseded
        Where it was ended for it meanwhile.
    """
    _require_spool(dispatched.folder.parent)
    if dispatched.taken is not None or dispatched.is_over:
        return True
    try:
        _require_version(dispatched.sender)
        profile = read_profile(dispatched.folder / PROFILE)
        orders = list(read_orders(dispatched.folder / ORDERS))
        stagers = _stagers(orders, profile, secrets)
        if profile.signing_key is not None:
            Key(profile.signing_key)
        if profile.confinement.use is Use.DEMAND:
            tried(profile.confinement)
    except NightmillError as error:
        if dispatched.take("", own := this_process(), utc_now()).owner == own:
            evidence = f"a worker on host {own.host} cannot begin: {error}"
            dispatched.end(Ending(at=utc_now(), fate=Fate.LOST, evidence=evidence, unfit=True))
        raise
    host = this_host(profile.cores)
    barred = dispatched.dispatch.hosts.bar(host.name)
    if barred and not dispatched.dispatch.tries:  # an engine is tried by its own names of hosts
        dispatched.end(
            Ending(at=utc_now(), fate=Fate.LOST, evidence=f"its engine chose a host that it may not: {barred}")
        )
        return False
    os.umask(profile.access.umask)
    if not profile.keep_scratch:
        Scratch.discard_abandoned(profile.scratch)  # nobody else may ever come to this host again
    with Worker(profile, stagers, host=host, dispatched=dispatched) as worker:
        if dispatched.take(worker.journal.name, this_process(), utc_now()).journal != worker.journal.name:
            worker.journal.path.unlink()
            return True
        with _listening(worker, dispatched):
            if dispatched.dispatch.tries:
                dispatched.tell(see(host.name, profile, orders[0], stagers))
            reports = list(worker.run(orders))
    why, unfit = worker.stopping, bool(worker.refused)
    dispatched.end(Ending(at=utc_now(), fate=Fate.CANCELLED if why else None, evidence=why, unfit=unfit))
    return len(reports) == len(orders) and _all_published(reports)


def _require_spool(folder: Path) -> None:
    if not folder.is_dir():
        raise SpoolAway(
            f"host {host_name()} does not see the spool: {folder} is not a folder there",
            remedy="mount the site's spool there, under the same path",
        )


def _require_version(sender: str) -> None:
    if sender not in ("", __version__):
        raise RequestRefused(
            f"{sys.executable} has nightmill {__version__}, and nightmill {sender} sent it out",
            remedy="install that version there, or have the engine use the interpreter that has it",
        )


@contextmanager
def _listening(worker: Worker, dispatched: Dispatched) -> Iterator[None]:
    """Have a worker end what it runs once it is told to, or its dispatch was ended for it."""
    done = threading.Event()

    def listen() -> None:
        while not done.wait(LISTEN_SECONDS):
            with suppress(OSError):  # the spool may be away for a moment: its journal tells where it stays so
                if why := dispatched.told_to_stop or (SUPERSEDED if dispatched.is_over else ""):
                    worker.stop(why)
                    return

    listener = threading.Thread(target=listen, name="nightmill-listener", daemon=True)
    listener.start()
    try:
        yield
    finally:
        done.set()
        listener.join()


def _stagers(orders: Iterable[JobOrder], profile: NodeProfile, secrets: Path | int | None) -> Mapping[str, Stager]:
    stores: dict[str, Store] = {name: store for order in orders for name, store in order.stores.items()}
    source = secrets if secrets is not None else profile.secrets
    return open_stagers(stores, {**os.environ, **(read_secrets(source) if source is not None else {})})


def _all_published(reports: Iterable[JobReport]) -> bool:
    return all(report.state is AttemptState.PUBLISHED for report in reports)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the orders of a file and say where the journal is; return 1 where some attempt published nothing."""
    parser = argparse.ArgumentParser(prog="python -m nightmill.execution.worker", description=main.__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("orders", type=Path, nargs="?", help="a file of orders, one a line")
    what.add_argument("--dispatch", type=Path, help="the folder of a dispatch, which has orders and profile")
    parser.add_argument("--profile", type=Path, help="the profile of this host, JSON")
    parser.add_argument("--secrets-fd", type=int, help="an inherited descriptor to read secrets from")
    given = parser.parse_args(arguments)
    if (given.profile is None) is (given.dispatch is None):
        parser.error("a file of orders needs --profile; a dispatch has its own")
    try:
        if given.dispatch is not None:
            dispatched = Dispatched(given.dispatch)
            signal.signal(signal.SIGTERM, partial(_told_by_engine, dispatched))
            return 0 if carry_out(dispatched, given.secrets_fd) else 1
        profile = read_profile(given.profile)
        orders = list(read_orders(given.orders))
        os.umask(profile.access.umask)
        with Worker(profile, _stagers(orders, profile, given.secrets_fd)) as worker:
            print(worker.journal.path, flush=True)
            reports = list(worker.run(orders))
    except NightmillError as error:
        print(f"nightmill: {error}", file=sys.stderr)
        return error.exit_code
    return 0 if _all_published(reports) else 1


def _told_by_engine(dispatched: Dispatched, number: int, _frame: FrameType | None) -> None:
    """End at once, unless nightmill has said so: why, the engine tells later, and what it tells is the fate."""
    if not dispatched.told_to_stop:
        raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
