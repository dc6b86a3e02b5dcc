"""Regressions: attempts are carried out again with the software of this host, and what they make is compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue import software as catalogue
from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.catalogue.software import Verdict
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused, UnknownName
from nightmill.execution.capsule.compare import ComparedOutput, compare
from nightmill.execution.capsule.compare import Verdict as OutputVerdict
from nightmill.execution.capsule.folder import Capsule, Run
from nightmill.execution.capsule.running import run_capsule
from nightmill.execution.journal import journals, read_whole_journal
from nightmill.execution.removal import remove
from nightmill.files.comparison import EXACT, WRITTEN_AT, Tolerance
from nightmill.model.order import AttemptKey
from nightmill.model.report import stacks
from nightmill.model.software import Acceptance, Stack
from nightmill.operations.acts import Act
from nightmill.operations.capsule import write_capsule
from nightmill.operations.site import Site, read
from provenance.executions import write_stacks
from provenance.history import job_history, maker_of

VERB: Final = "regress"
MOST_TOLD: Final = 50
"""Differences of a reference that are kept on record."""


@dataclass(frozen=True)
class Regression:
    """A reference attempt, carried out again.

    Parameters
    ----------
    reference
        The attempt.
    stacks
        What steps ran with now, by the step.
    outputs
        What it made, beside what is on record: what the attempt published, and what one of the two did not make.
    endings
        How steps, and the attempt, ended otherwise.
    """

    reference: AttemptKey
    host: str
    stacks: Mapping[str, Stack]
    outputs: Sequence[ComparedOutput]
    endings: Sequence[str]

    @property
    def passed(self) -> bool:
        """Whether it came to the same."""
        return not self.endings and all(each.verdict.equal and not each.differences for each in self.outputs)

    @property
    def differences(self) -> list[str]:
        """In what it came to something else, a sentence each."""
        return [*self.endings, *(told for each in self.outputs for told in _told(each))]


def _told(output: ComparedOutput) -> Iterator[str]:
    if not output.verdict.equal and not output.differences:
        yield f"{output.role} {output.name}: {output.verdict}"
    yield from (f"{output.role} {output.name}: {difference}" for difference in output.differences)


def reference_of(site: Site, name: str, job: tuple[str, str, str] | None, number: int | None) -> AttemptKey:
    """Return the attempt that a name stands for.

    Parameters
    ----------
    name
        A file, which stands for the attempt that made it, where no job is given.
    job
        Campaign, stage and unit.
    number
        Of the attempt; by default the one that counts.

    Raises
    ------
    UnknownName
        Where there is no such job or file.
    RequestRefused
        Where a job never ran, or no attempt made a file.
    """
    return read(site, partial(_reference, name=name, job=job, number=number))


def _reference(session: Session, name: str, job: tuple[str, str, str] | None, number: int | None) -> AttemptKey:
    if job is None:
        file = known_files(session, [name]).get(name)
        if file is None:
            raise UnknownName("file or job", name, (), remedy="name a file, or CAMPAIGN/STAGE/UNIT")
        maker = maker_of(session, file.id)
        if maker is None:
            raise RequestRefused(f"no attempt made file {name}", remedy="name one that an attempt made")
        return AttemptKey(campaign=maker.campaign, stage=maker.stage, unit=maker.unit, number=maker.attempt)
    shown = job_history(session, *job, number=number).shown
    if shown is None:
        raise RequestRefused(f"job {name} never ran", remedy="name one that did: its outputs are the reference")
    return AttemptKey(campaign=job[0], stage=job[1], unit=job[2], number=shown.number)


def regress(
    site: Site,
    references: Iterable[AttemptKey],
    *,
    tolerance: Tolerance = EXACT,
    ignored: Collection[str] = (),
    why: str = "",
    who: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Regression]:
    """Carry out attempts again with the software of this host, and yield how each compares; nothing is published.

    Each verdict is on record before it is yielded, with the stacks that the steps ran with. Folders that are needed
    meanwhile lie in the scratch of the site.

    Parameters
    ----------
    references
        Asked for once it is known that the user may do this.
    tolerance
        By how much numbers may differ.
    ignored
        Keywords of FITS headers that do not count, beside those that say when a file was written.
    tell
        Called with what goes on.

    Raises
    ------
    RequestRefused
        Where the user may not change the site, or an attempt cannot be carried out again: an input, its bundle or a
        product cannot be had as it was.
    """
    act, config = Act.begin(site, VERB, who=who, why=why), site.config
    for reference in dict.fromkeys(references):
        tell(f"{reference} is carried out again")
        with _folder(config.scratch) as folder:
            job = (reference.campaign, reference.stage, reference.unit)
            write_capsule(site, job, folder / "capsule", number=reference.number, link=True, products=True)
            capsule = Capsule.open(folder / "capsule")
            run = run_capsule(capsule, containers=config.containers, confinement=config.confinement)
            found = _compared(capsule, run, reference, tolerance, ignored)
        yield act.write(str(reference), partial(_record, found=found, act=act), _detail)


def _detail(found: Regression) -> Mapping[str, object]:
    return {"passed": found.passed, "differences": found.differences[:MOST_TOLD]}


@contextmanager
def _folder(scratch: Path) -> Iterator[Path]:
    folder = scratch / f"{VERB}-{token_hex(4)}"
    try:
        folder.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise RequestRefused(
            f"{folder} cannot be made: {error.strerror}", remedy="see 'scratch' of the site"
        ) from error
    try:
        yield folder
    finally:
        remove(folder)


def _compared(
    capsule: Capsule, run: Run, reference: AttemptKey, tolerance: Tolerance, ignored: Collection[str]
) -> Regression:
    recorded = capsule.recorded()
    kept = {file.name for file in recorded.published} if recorded is not None else set()
    found = compare(capsule, run, ignored=(*WRITTEN_AT, *ignored), tolerance=tolerance)
    one_sided = (OutputVerdict.MISSING, OutputVerdict.ADDED)
    told = stacks(entry for path in journals(run.folder / "journal") for entry in read_whole_journal(path).entries)
    return Regression(
        reference=reference,
        host=run.report.host,
        stacks={step.name: told[step.software] for step in run.report.steps},
        # of files that were not kept only the digests are there, which a date in a header changes
        outputs=[each for each in found.outputs if each.name in kept or each.verdict in one_sided],
        endings=found.endings,
    )


def _record(session: Session, found: Regression, act: Act) -> Regression:
    """Put a verdict on record of each stack that a step ran with."""
    own = {stack.sha256: stack for stack in found.stacks.values()}
    write_stacks(session, own)
    key = found.reference
    shown = job_history(session, key.campaign, key.stage, key.unit, number=key.number).shown
    told = [] if found.passed else found.differences[:MOST_TOLD]
    verdicts = [
        Verdict(
            software_id=each.id,
            attempt_id=shown.id if shown is not None else None,
            how=Acceptance.REGRESSION,
            passed=found.passed,
            differences=told,
            host=found.host,
            who=act.who,
            why=act.why,
            at=utc_now(),
        )
        for digest in own
        for each in catalogue.stacks_like(session, digest)
    ]
    catalogue.add_verdicts(session, verdicts)
    return found
