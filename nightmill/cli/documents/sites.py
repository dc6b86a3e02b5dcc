"""What verbs print of a site, its server, its spool and its database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class Site(Document):
    """A site that was made."""

    site: str
    """Its name."""
    directory: str
    """Its folder."""
    database: str
    """URL of the catalogue, without the password."""
    stores: Mapping[str, str]
    """Names of stores and working areas to their URLs, without what is secret in them."""
    file_types: Sequence[str]
    """Names of the file types."""


@dataclass(frozen=True, kw_only=True)
class Server(Document):
    """How the Prefect server of a site is."""

    state: str
    """Whether its process lives."""
    healthy: bool
    """Whether it answers."""
    pid: int
    """Number of the process; 0 where it does not run."""
    api_url: str
    """Where its API is."""
    ui_url: str
    """Where its UI is."""
    log: str
    """Path of its log."""


@dataclass(frozen=True, kw_only=True)
class Runner(Document):
    """How a runner beside that of a site's server is."""

    name: str
    """As Prefect's UI shows it."""
    host: str
    """Its host."""
    queues: Mapping[str, int]
    """The work queues that it serves, to how many flow runs at a time."""
    state: str
    """Whether its process lives; on another host, whether nobody stopped it."""
    healthy: bool
    """Whether its process was seen to live lately."""
    pid: int
    """Number of the process; 0 where it does not run."""
    flow_runs: int
    """How many flow runs it carries out."""
    turn_at: datetime | None
    """When it last looked after them; it does each quarter of a minute, server or not."""
    heard_at: datetime | None
    """When the server last heard of it; null where nobody asked or it never did."""
    log: str
    """Path of its log."""


@dataclass(frozen=True, kw_only=True)
class Service(Document):
    """How the conductor of a site is."""

    server: Server
    """The Prefect server."""
    runner: str
    """Whether the runner's process lives."""
    runner_pid: int
    """Number of that process; 0 where it does not run."""
    flow_runs: int
    """How many flow runs it carries out."""
    healthy: bool
    """Whether flow runs that are submitted will be carried out."""
    runners: Sequence[Runner]
    """Those beside it, of all hosts, that were not stopped."""


@dataclass(frozen=True, kw_only=True)
class Quarantined(Document):
    """A journal that was set apart."""

    journal: str
    """Its path."""
    why: str
    """What is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Record(Document):
    """What became of the journals of a spool."""

    journals: int
    """How many were read."""
    published: int
    """How many attempts are on record as published."""
    failed: int
    """How many as failed."""
    superseded: int
    """How many as superseded: another result of their job was first."""
    running: int
    """How many go on."""
    adopted: int
    """How many had died while they published, and were completed."""
    lost: int
    """How many had died, and were ended."""
    unknown: Sequence[str]
    """Attempts that the database does not know."""
    waiting: Mapping[str, str]
    """Attempts that wait for a store, with the reason."""
    quarantined: Sequence[Quarantined]
    """Journals that were set apart."""


@dataclass(frozen=True, kw_only=True)
class Recovery(Document):
    """What can be had back, or was."""

    done: bool
    """Whether it was done."""
    older: str
    """In what the database is older than its spool; empty where it is not."""
    campaigns: Sequence[str]
    """Campaigns that are not on record, and were kept in the spool."""
    attempts: Mapping[str, int]
    """States to how many attempts that ended so are put on record."""
    unplanned: Mapping[str, int]
    """Campaigns to how many attempts are of jobs that are not on record."""
    refused: Mapping[str, str]
    """What cannot be had back, with the reason and what to do."""
    rows: Mapping[str, int]
    """What is wrong with rows that contradict others, to how many are set right."""


@dataclass(frozen=True, kw_only=True)
class Backup(Document):
    """A backup that was verified."""

    where: str
    """Its file, or in words what it is."""
    as_of: datetime
    """Everything that was on record then is in it."""
    size_bytes: int | None
    """Of its file, bytes, where nightmill made it."""
    sha256: str | None
    """Digest of its file, where nightmill made it."""


@dataclass(frozen=True, kw_only=True)
class Retained(Document):
    """What was removed as the site's retention says, or would be."""

    compressed: int
    """How many journals were compressed."""
    removed: int
    """How many journals were removed."""
    attachments: int
    """How many attachments of journals were removed."""
    held: int
    """How many files were removed that failed attempts had left for another."""
    held_left: int
    """How many such files there are now."""
    held_bytes: int
    """Of these, bytes."""
    held_until: datetime | None
    """When the first of these may be removed, unless somebody wants it; null where there is none, or never."""
    freed_bytes: int
    """How much room that made, bytes."""
    kept: Mapping[str, str]
    """Journals that are older than the retention and stay, with the reason."""
    logs: Sequence[str]
    """Paths of logs that were removed."""


@dataclass(frozen=True)
class Finding(Document):
    """What was looked at, whether it is well, and what was seen."""

    what: str
    """What was looked at."""
    well: bool
    """Whether it is in order."""
    seen: str
    """What was seen, in words."""
    where: str = ""
    """Of a contradiction: its place, which stands in ``seen`` as well."""
    since: datetime | None = None
    """Of a contradiction: since when it is there, where that is known."""
    remedy: str = ""
    """Of a contradiction, or of a part of the site that failed a flight check: what to do."""
    ends_at: datetime | None = None
    """Of a credential: when it ends, or ended, where that is known."""
    wall_seconds: float | None = None
    """Of a flight check: how long the part took, seconds."""
    engine: str = ""
    """Of an engine's flight check: its name."""
    place: str = ""
    """Of an engine's flight check: the host, or in words that it may be any."""
