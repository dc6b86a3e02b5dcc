"""What the kernel asks of the world: the ports that plug-ins fill.

That of lookups stands in :mod:`nightmill.model.lookup`, with what they see; those of engines in
:mod:`nightmill.model.carrier`.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from nightmill.model.attachment import RowValue
from nightmill.model.conducting import CampaignRun, RunState, Seen
from nightmill.model.content import Candidate, Content, Digest, StepInput
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
        """Remove an upload that was not revealed, if it is there."""
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
        """Remove a stored file, if it is there."""
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


class Format(Protocol):
    """Reads files of one format; a plug-in is a class that is made without arguments, once a process.

    Several threads may use one. ``nightmill/testing/formats.py`` has a test for each promise made here.
    """

    @property
    def keyword(self) -> re.Pattern[str] | None:
        """What a whole keyword of its sections looks like; None for a format without sections."""
        ...

    def read(
        self,
        path: str | PathLike[str],
        *,
        descriptor: int | None = None,
        digest: Digest | None = None,
        verify: bool = False,
    ) -> Content:
        """Read a file once, and see that it is whole.

        Parameters
        ----------
        path
            Names the file in messages; it is opened where there is no descriptor.
        descriptor
            Of the file, where it is open already: it is read from its beginning, and stays open.
        digest
            Is given every byte of the file, in order.
        verify
            Whether the checksums that the file holds of its own parts are to be verified.

        Raises
        ------
        BadFile
            Where it is not whole, not of the format, or cannot be read; the message begins with ``path``, and the
            reason is a word that will stay.
        """
        ...


@runtime_checkable
class KeywordFormat(Format, Protocol):
    """A format whose keywords have more rules than :attr:`Format.keyword` can say."""

    def wrong_with(self, keyword: str) -> str:
        """Say what is wrong with a keyword, as what follows its name in a sentence; empty where nothing is."""
        ...


@runtime_checkable
class TableFormat(Format, Protocol):
    """A format whose files may hold tables."""

    def rows(
        self, name: str | PathLike[str], path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows of a table of a file that :meth:`Format.read` found whole, in their order.

        Parameters
        ----------
        name
            What messages call the file.
        path
            Leads to its bytes.
        table
            Number or name of it: of its section, or what else the format has to name one by. 1 is the only table of a
            file that has one alone.
        columns
            The values of each row, whatever the case of their names; each a plain value, or None where there is none.
            Without any, an empty row comes for each row of the table.

        Raises
        ------
        BadFile
            Where there is no such table or column, or a column holds more than a plain value a row.
        """
        ...


class Check(Protocol):
    """Looks at a file that its format has read, and refuses it or not.

    Several threads may use one. ``nightmill/testing/checks.py`` has a test for each promise made here and by
    :class:`CheckClass`.
    """

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Return for a file that may pass.

        Parameters
        ----------
        inputs
            What the step read, in its order; nothing unless the check compares.

        Raises
        ------
        BadFile
            For one that may not: the message names the file, the reason is a word that will stay, and the remedy says
            what to do.
        """
        ...


class CheckClass(Protocol):
    """What a plug-in offers: the class of a check, made with its options once a process for all types that say so.

    One that has an attribute ``tables``, which is true, can look at files of every format that holds tables
    (:class:`TableFormat`), and at no others. One with a static method ``metadata_keys`` tells by its options which keys
    of metadata it looks at: a file type that has not got them is refused. One with a static method ``input_roles``
    tells by its options which inputs it compares with: outputs of a step that does not read them are refused by a plan.
    """

    @property
    def Options(self) -> type[BaseModel]:  # noqa: N802 - it is a class
        """A frozen model that forbids what it does not know, of what a file type says under the check's name."""
        ...

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats whose files it can look at; none for every one."""
        ...

    @property
    def compares(self) -> bool:
        """Whether it needs what the step read that made the file: then it runs in the gate of a job alone.

        A check that was made may say otherwise in its attribute ``is_comparing``, where that depends on its options.
        """
        ...

    def __call__(self, options: Any, /) -> Check:
        """Make the check with its options."""
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
