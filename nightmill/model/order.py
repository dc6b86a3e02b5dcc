"""The order of a job: the contract between the plan, which alone knows the catalogue, and the job, which obeys.

An order holds everything that a job may know. It is frozen JSON, versioned, and can be run anywhere that its stores
can be reached: ``nightmill run ORDER.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal

from pydantic import Field, field_validator

from nightmill.model.base import Frozen
from nightmill.model.calibration import Calibration
from nightmill.model.confinement import Network
from nightmill.model.container import is_image
from nightmill.model.dimensions import KeyValue
from nightmill.model.error_rule import compiled
from nightmill.model.file_type import FileType
from nightmill.model.observed import DifferenceKind, Policy, WantedLevel
from nightmill.model.pipeline import Parameter, Resources
from nightmill.model.store import Store

ORDER_VERSION: Final = 1


class AttemptKey(Frozen):
    """Which try at which job: unique for ever."""

    campaign: str
    stage: str
    unit: str
    """As :func:`nightmill.model.dimensions.unit_name` writes it."""
    number: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.campaign}/{self.stage}/{self.unit}/a{self.number:02d}"

    @property
    def job(self) -> str:
        """The job's name inside its campaign, as people see it."""
        return f"{self.stage}/{self.unit}"


class Copy(Frozen):
    """Where a copy of a file lies."""

    store: str
    path: str
    """Below the store's URL."""


_STAGED_NAME: Final = re.compile(r"(?![.-])(?!.*\.\.)[A-Za-z0-9._+:%-]+")


class OrderInput(Frozen):
    """One file of the pre-flight list."""

    role: str
    name: str
    type: str
    size_bytes: int
    sha256: str
    store: str
    path: str
    """Below the store's URL."""
    data_id: Mapping[str, KeyValue] = Field(default_factory=dict)
    rule: str
    """The rule that chose it, in words, as ``nearest in set ccd-2026: 0.4 d``."""
    level: int | None = None
    """Of the lookup that chose it, where that has one: how good it is for the unit."""
    also: tuple[Copy, ...] = ()
    """Further copies, in the order in which they are tried where the one before cannot be had."""
    more_roles: tuple[str, ...] = ()
    """Further roles that it fills in the same job."""
    staged_as: str = ""
    """Its name in the scratch, where that is not its own."""
    excluded: tuple[str, ...] = ()
    """Parts of it that must not be used: names or numbers of HDUs, amplifiers."""

    @field_validator("staged_as")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if name and not _STAGED_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not fit for a file name")
        return name

    @property
    def staged_name(self) -> str:
        """Its name in the scratch."""
        return self.staged_as or self.name

    @property
    def copies(self) -> tuple[Copy, ...]:
        """Every copy, in the order in which they are tried."""
        return (Copy(store=self.store, path=self.path), *self.also)

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role that it fills."""
        return (self.role, *self.more_roles)


class OrderBundle(Frozen):
    """The pipeline's folder as it was at submit: an archive that steps see unpacked, as ``../bundle``."""

    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the archive."""
    size_bytes: int
    store: str
    path: str
    """Below the store's URL."""


_OPEN_NAME: Final = re.compile(r"(?:[A-Za-z0-9._+:%-]|\{[A-Za-z_]\w*(?::(?![^{}]*[0-9]{4})[^{}]{0,40})?\})*")
"""Characters of names, and plain fields that no value makes very long."""


class OrderOutput(Frozen):
    """A file (or, with ``produces``, files) that a step must make.

    ``names`` are full names, unique for ever; where more than one may come, they are used in the order of the files'
    own names. Where the files tell what makes their names, these are known when they are made: ``open_name`` has what
    is known before, and fields for what is told.
    """

    role: str
    type: str
    """Empty for a scratch file, which is neither named nor checked."""
    names: tuple[str, ...] = ()
    data_id: Mapping[str, KeyValue]
    required: bool = True
    produces: str = ""
    where: str = ""
    """An expression that its files fulfil, and those of other outputs with the same ``produces`` do not."""
    tells: tuple[str, ...] = ()
    """Keys whose values each file tells."""
    open_name: str = ""
    min: int = 1
    max: int | None = None
    """The greatest number of files; None for as many as there are names."""
    store: str = ""
    """Empty for an intermediate file: known, not kept."""
    directory: str = ""
    """Below the store's URL."""
    calibration: Calibration | None = None
    valid_from: str = ""
    valid_until: str = ""
    """The validity range that the plan worked out, ISO 8601 UTC, where the output becomes a calibration."""

    @field_validator("open_name")
    @classmethod
    def _is_open_name(cls, text: str) -> str:
        if not _OPEN_NAME.fullmatch(text):
            raise ValueError("it is not a name with fields")
        return text

    @property
    def called(self) -> str:
        """How messages call it: by its role and type."""
        return f"{self.role} ({self.type})" if self.type else f"{self.role} (scratch file)"

    @property
    def later(self) -> bool:
        """Whether the names of its files are known when they are made, and not before."""
        return not self.names

    def is_named(self, name: str, values: Mapping[str, object]) -> bool:
        """Say whether it may have a file of a name, for which the file tells these values."""
        try:
            return name in self.names or (bool(self.open_name) and name == self.open_name.format_map(values))
        except (KeyError, ValueError, TypeError, OverflowError):
            return False


def later_names(role: str) -> str:
    """Return what stands in an order for the names of an output's files that are known when they are made."""
    return f"{{{role}}}"


class OrderText(Frozen):
    """A list or configuration file that is written for a step before it begins."""

    name: str = Field(pattern=r"^[A-Za-z0-9_+][A-Za-z0-9._+-]*$")
    """Of the file, as the step sees it: ``../files/NAME``."""
    text: str


class ErrorName(Frozen):
    """A version of a rule by which a site knows an error."""

    error: str
    version: int

    def __str__(self) -> str:
        return f"{self.error} (version {self.version})"


class OrderRule(Frozen):
    """What a rule says of a step that exits with a code other than 0: all of it must hold."""

    called: ErrorName
    exit: tuple[int, ...] = ()
    """Exit codes; none for any."""
    says: str = ""
    """A regular expression, in the syntax of RE2, over the evidence and over the lines of the step's log."""
    accepts: bool = False
    """Whether the step then counts as good; one that does not say so is asked before one that does."""

    @field_validator("says")
    @classmethod
    def _is_pattern(cls, says: str) -> str:
        compiled(says)
        return says


class OrderStep(Frozen):
    """One command, its templates filled in but for ``{python}`` and names that are known when files are made.

    Paths in ``argv`` are relative to the step's working folder ``work/``: ``../inputs/NAME``, ``../outputs/NAME`` for
    what an earlier step made, ``NAME`` for what the step makes.
    """

    name: str
    argv: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    """Names of files, staged or made by earlier steps; ``{ROLE}`` for all files of an output of an earlier step whose
    names are known when they are made."""
    outputs: tuple[OrderOutput, ...] = ()
    environment: Mapping[str, str] = Field(default_factory=dict)
    wall_seconds: float = 3600.0
    on_failure: Literal["stop", "continue"] = "stop"
    """Whether the job ends where its process fails, or goes on without its outputs."""
    warm: tuple[str, ...] = ()
    """Modules that its process has imported before it begins, where that can be."""
    software: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    files: tuple[OrderText, ...] = ()
    """Lists and configuration that are written for it."""
    rules: tuple[OrderRule, ...] = ()
    """Of its site, where one may accept an exit code of it: the first that fits counts."""
    image: str = ""
    """The image that it runs in, by digest; ``{python}`` is then that of the image."""
    network: Network = "off"
    """What of the network it may use."""
    sockets: bool = False
    """Whether it may make UNIX sockets."""
    shared_memory: bool = False
    """Whether it may use the shared memory of the host."""
    may_eliminate: bool = False
    """Whether it may leave inputs out, and then tells what it used."""
    differences: Mapping[DifferenceKind, Policy] = Field(default_factory=dict)
    """What follows from differences between what was planned, seen and told, where that is not the default."""

    @field_validator("image")
    @classmethod
    def _has_digest(cls, image: str) -> str:
        if image and not is_image(image):
            raise ValueError(f"{image!r} does not name an image by its digest")
        return image


class TakenOutput(Frozen):
    """A file that a step made in another run, and that is staged instead of being made again."""

    role: str
    name: str
    """As steps see it: ``../outputs/NAME``."""
    size_bytes: int
    sha256: str
    store: str
    path: str
    """Below the store's URL."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"{name!r} is not fit for a file name")
        return name

    @property
    def recorded(self) -> str:
        """Its name on record, with which its path ends: the name of the attempt that made it."""
        return self.path.rpartition("/")[2]


class JobOrder(Frozen):
    """Everything that one attempt at a job may know."""

    version: Literal[1] = ORDER_VERSION
    attempt: AttemptKey
    data_id: Mapping[str, KeyValue]
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    """When the unit's files began and ended, UTC: the times of outputs whose headers tell none."""
    pipeline: str
    pipeline_version: str
    pipeline_dir: str = ""
    """Where the pipeline's folder was at submit: for people."""
    bundle: OrderBundle | None = None
    """None in orders of plans that were sealed before there were bundles."""
    plan_sha256: str = ""
    """Digest of the sealed plan that it was rendered from."""
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    stores: Mapping[str, Store]
    file_types: Mapping[str, FileType]
    """The types of its outputs: what the gate checks against."""
    inputs: tuple[OrderInput, ...]
    steps: tuple[OrderStep, ...]
    only: tuple[str, ...] | None = None
    """Names of the steps that are run; by default all."""
    taken: tuple[TakenOutput, ...] = ()
    """What steps that are not run had made, as far as those that are run read it."""
    log_name: str
    """Unique name of the file that keeps the steps' stdout and stderr."""
    log_store: str
    log_directory: str = ""
    resources: Resources = Resources()
    junk: Literal["leave", "tar"] = Field(default="leave", exclude_if=lambda junk: junk == "leave")
    """Whether what steps left and no output declares, and what the gate refused, is kept in a tar beside the log."""
    keep_on_failure: bool = False
    """Whether files of the steps before the one that fails are kept, for another attempt to take."""

    level: WantedLevel = "standard"
    """How closely its steps are watched."""

    @property
    def wanted_steps(self) -> tuple[OrderStep, ...]:
        """The steps that are run, in their order."""
        return tuple([step for step in self.steps if self.only is None or step.name in self.only])

    @property
    def log_path(self) -> str:
        """Where the log goes, below the URL of its store."""
        return stored_path(self.log_directory, self.log_name)

    @property
    def junk_name(self) -> str:
        """Unique name of the tar with what no output declares: that of the log, with another end."""
        return junk_name(self.log_name)

    @property
    def junk_path(self) -> str:
        """Where that goes, below the URL of the log's store."""
        return stored_path(self.log_directory, self.junk_name)


def junk_name(log_name: str) -> str:
    """Return the name of the tar of junk beside a log."""
    return f"{log_name.removesuffix('.log')}.junk.tar"


def stored_path(directory: str, name: str) -> str:
    """Return the path of a file below the URL of its store; an empty directory is the store's own folder."""
    return f"{directory}/{name}" if directory else name


def canonical(order: JobOrder) -> bytes:
    """Return an order as JSON without the keys that are left at their default: one that is new changes no old order."""
    return order.model_dump_json(exclude_defaults=True).encode()


def order_sha256(order: JobOrder) -> str:
    """Return the digest of an order, by which an attempt and its journal are known to speak of the same one."""
    return sha256(canonical(order)).hexdigest()
