"""What verbs print of what is known of runs of steps: planned, opened, contributed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class Difference(Document):
    """One difference between what was planned, seen and told."""

    kind: str
    """Its kind."""
    name: str
    """Name of the file; a path, or the role, where no file can be named."""
    detail: str
    """What more is known."""
    consequence: str
    """``noted``, ``warned`` or ``failed``."""


@dataclass(frozen=True, kw_only=True)
class Observed(Document):
    """What is known of a run of a step beside what it did."""

    level: str
    """How far it was held to what it was given: ``none``, ``standard`` or ``audit``."""
    by: Sequence[str]
    """What held it."""
    lacking: Sequence[str]
    """What was not held, a sentence each."""
    witness: str
    """Who saw what it opened; empty where nobody did."""
    inputs: int
    """How many files on record it was to read."""
    opened: int
    """How many of those that it used the witness saw opened."""
    left_out: int
    """Of how many it told that it did not use them."""
    told: bool
    """Whether it told anything of what it used."""
    reached: Sequence[str]
    """Paths outside of what it was given that it tried to reach."""
    differences: Sequence[Difference]
    """How what was planned, seen and told differ."""


@dataclass(frozen=True, kw_only=True)
class Completeness(Document):
    """How much is known of the runs of steps that the results of a campaign stand on."""

    runs: int
    """How many there are."""
    confined: int
    """How many were held to what they were given."""
    witnessed: int
    """How many a witness saw."""
    told: int
    """How many told anything of what they used."""
    silent: int
    """How many may eliminate inputs and told nothing."""


@dataclass(frozen=True, kw_only=True)
class WarnedOf(Document):
    """A kind of difference of which results of a campaign warn."""

    stage: str
    """Name of the stage."""
    step: str
    """Name of the step."""
    kind: str
    """The kind."""
    count: int
    """How many differences there are."""
    jobs: int
    """Of how many jobs."""
    example: str
    """The unit of one of them."""


@dataclass(frozen=True, kw_only=True)
class NeverOpened(Document):
    """Files that were staged for an input of a stage and that no step of the job opened."""

    campaign: str
    """Name of the campaign."""
    stage: str
    """Name of the stage."""
    role: str
    """The input."""
    files: int
    """How many files there are."""
    attempts: int
    """How many attempts they were staged for in vain."""
    staged: int
    """How often a file was staged so."""
    size_bytes: int
    """Bytes that were staged so."""


@dataclass(frozen=True, kw_only=True)
class EliminatedFiles(Document):
    """Files that steps eliminated for a reason."""

    campaign: str
    """Name of the campaign."""
    stage: str
    """Name of the stage."""
    role: str
    """The input."""
    reason: str
    """Why, in the words of the step."""
    night: int | None
    """The night of the files."""
    detector: int | None
    """The detector of the files."""
    files: int
    """How many files there are."""
    jobs: int
    """How many jobs left them out."""
    example: str
    """Name of one of them."""


@dataclass(frozen=True, kw_only=True)
class Differing(Document):
    """Differences of a kind."""

    campaign: str
    """Name of the campaign."""
    stage: str
    """Name of the stage."""
    step: str
    """Name of the step."""
    kind: str
    """The kind."""
    consequence: str
    """``noted``, ``warned`` or ``failed``."""
    count: int
    """How many there are."""
    jobs: int
    """Of how many jobs."""
    example: str
    """Name of a file, or the path or role."""


@dataclass(frozen=True, kw_only=True)
class InputsReport(Document):
    """What became of inputs."""

    never_opened: Sequence[NeverOpened]
    """What was staged in vain, the most bytes first."""
    eliminated: Sequence[EliminatedFiles]
    """What results left out, the most files first."""
    differences: Sequence[Differing]
    """How plan, witness and step differ, the most frequent first."""
