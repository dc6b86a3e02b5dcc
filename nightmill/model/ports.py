"""What the kernel asks of the world: the ports that plug-ins fill.

That of lookups stands in :mod:`nightmill.model.lookup`, with what they see.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from nightmill.model.conducting import CampaignRun, RunState, Seen
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport


class Stager(Protocol):
    """Moves bytes between one store and local folders.

    Paths are relative to the store's URL, with ``/`` between their parts. No method ever overwrites a stored file.
    Every method raises StoreError for a path that leads out of the store, and where the store cannot be used. Several
    threads may use one stager. ``stagers/conformance.py`` has a test for each promise made here.
    """

    def fetch(self, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet.

        Never a link into the store: what a step does to its copy must not reach the store.

        Returns
        -------
        int
            Bytes copied.

        Raises
        ------
        StoredFileMissing
            Where the store has no such file.
        OSError
            Where the local path cannot be written; the error names it, and nothing is left there.
        """
        ...

    def upload(self, source: Path, path: str, *, attempt: str) -> None:
        """Bring a local file into the store under a temporary name beside ``path``, durable, not yet visible.

        ``attempt`` makes the temporary name its own, so that a later process can find it: it names the attempt and who
        carries it out. An earlier upload by the same name is replaced.

        Raises
        ------
        NameCollision
            Where ``path`` exists already: told early, before an intent is declared; :meth:`reveal` has the last word.
        StoreFull
            Where there is no room; nothing is left behind.
        OSError
            Where the local file cannot be read.
        """
        ...

    def reveal(self, path: str, *, attempt: str) -> None:
        """Give an uploaded file its name: exclusive and atomic.

        Raises
        ------
        NameCollision
            Where the name exists.
        StoredFileMissing
            Where nothing was uploaded.
        StoreError
            Where it is not what :meth:`uploaded` of the same stager read last; no name is given.
        """
        ...

    def settle(self, paths: Iterable[str]) -> None:
        """Make the names of revealed files durable; when it returns, a loss of power does not take them back."""
        ...

    def discard(self, path: str, *, attempt: str) -> None:
        """Remove an upload that was not revealed; none there is no error."""
        ...

    def uploaded(self, path: str, *, attempt: str) -> tuple[int, str] | None:
        """Return size in bytes and SHA-256 of an upload that was not revealed, or None."""
        ...

    def size(self, path: str) -> int | None:
        """Return the size in bytes of a stored file, or None where there is none."""
        ...

    def sha256(self, path: str) -> str:
        """Read a stored file and return its SHA-256 as hexadecimal digits.

        Raises
        ------
        StoredFileMissing
            Where the store has no such file.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove a stored file; none there is no error."""
        ...

    def list(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of every stored file below a prefix, uploads that were not revealed left out."""
        ...

    def uploads(self) -> Iterator[tuple[str, str]]:
        """Yield the place, below the store's URL, and the ``attempt`` of every upload that was not revealed."""
        ...


class View(Protocol):
    """Lays out the inputs of a job a second way, for programs that look for them in a repository of their own."""

    def lay_out(self, order: JobOrder, scratch: Path) -> None:
        """Make the view, once every input is staged and before the first step begins.

        Parameters
        ----------
        scratch
            The scratch of the job, laid out as :mod:`nightmill.model.layout` says.

        Raises
        ------
        OSError
            Where it cannot be written.
        """
        ...


class Engine(Protocol):
    """Carries out many orders."""

    def run(self, orders: Iterable[JobOrder]) -> Generator[JobReport, None, None]:
        """Carry out the orders and yield a report of each as it ends, in no fixed order.

        Orders are taken only when they can be carried out soon, so that they may be issued as they are asked for. A
        failed job is a report, not an exception. Closing the generator ends what runs.
        """
        ...


class Conductor(Protocol):
    """Has the campaigns of one site conducted, and tells how far their flow runs are."""

    def require(self) -> None:
        """Make sure that what is submitted will be carried out.

        Raises
        ------
        ServerAway
            Where its server does not answer, or nothing takes work from it.
        """
        ...

    def start(self, campaign: str) -> CampaignRun:
        """Have a campaign conducted that is on record in the backbone, once the states of its runs agree with that.

        A campaign has one flow run: one that has ended is carried out again in place. One that is under way goes on,
        and those of its slices are carried out again that have ended and have work left.

        Raises
        ------
        ServerAway
            Where the server does not answer.
        """
        ...

    def reconcile(self, campaign: str | None, flow_run_ids: Sequence[str]) -> Seen:
        """Make the states of flow runs agree with the backbone, and return those of some; takes seconds at most.

        Parameters
        ----------
        campaign
            Its name, or None for all of them.
        """
        ...

    def state(self, flow_run_id: str) -> RunState:
        """Return the state of a flow run.

        Raises
        ------
        ServerAway
            Where the server does not answer, or the flow run was deleted from it.
        """
        ...

    def url(self, flow_run_id: str) -> str:
        """Return where the UI shows a flow run; empty where this user never started a server for the site."""
        ...

    def link(self, flow_run_id: str) -> str:
        """Return the same for a person: a link that signs their browser in, and is good for some hours."""
        ...
