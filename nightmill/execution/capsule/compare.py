"""How the result of a run differs from what is on record of its attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nightmill.errors import RequestRefused
from nightmill.execution.capsule.folder import KEPT, Capsule, Run
from nightmill.files.comparison import EXACT, Tolerance, content_differences
from nightmill.model.journal import MadeFile
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport, StepReport


class Verdict(StrEnum):
    """How an output compares with the one that is on record."""

    SAME = "same bytes"
    CONTENT = "same content"
    """Other bytes, and every value is the same."""
    DIFFERS = "differs"
    MISSING = "missing"
    ADDED = "added"

    @property
    def equal(self) -> bool:
        """Whether nothing differs that counts."""
        return self in (Verdict.SAME, Verdict.CONTENT)


@dataclass(frozen=True)
class ComparedOutput:
    """An output of a run beside the one that is on record."""

    step: str
    role: str
    name: str
    verdict: Verdict
    differences: tuple[str, ...] = ()
    """What differs in it, and in what is known of it, a sentence each."""


@dataclass(frozen=True)
class Comparison:
    """A run beside what is on record."""

    run: int
    recorded: str
    """The attempt that is on record."""
    outputs: tuple[ComparedOutput, ...]
    endings: tuple[str, ...]
    """How steps, and the attempt, ended otherwise."""
    changed: tuple[str, ...]
    """What the run read otherwise than the attempt: inputs, the pipeline's folder, steps that it left out."""

    @property
    def equal(self) -> bool:
        """Whether its result is that of the attempt."""
        return not self.endings and all(output.verdict.equal and not output.differences for output in self.outputs)


def compare(capsule: Capsule, run: Run, *, ignored: Collection[str] = (), tolerance: Tolerance = EXACT) -> Comparison:
    """Compare a run with what is on record, as far as it went: steps that it left out do not count.

    Parameters
    ----------
    ignored
        Keywords of FITS headers that do not count.
    tolerance
        By how much numbers may differ.

    Raises
    ------
    RequestRefused
        Where nothing is on record: the job had not run.
    """
    recorded = capsule.recorded()
    if recorded is None:
        raise RequestRefused(
            f"nothing is on record of {capsule.order.attempt}: the job had not run when its capsule was written",
            remedy="write the capsule of an attempt that ran, into another folder",
        )
    wanted = {step.name for step in run.report.order.wanted_steps}
    before = {(file.role, file.name): file for file in recorded.made if file.step in wanted}
    after = {(file.role, file.name): file for file in run.report.made}
    outputs = [
        _compared(before.get(key), after.get(key), capsule.folder / KEPT, run.outputs, ignored, tolerance)
        for key in dict.fromkeys([*before, *after])
    ]
    return Comparison(
        run.number,
        str(recorded.attempt),
        tuple(outputs),
        tuple(_endings(recorded, run.report, wanted)),
        tuple(_changed(capsule.order, run.report.order)),
    )


def _compared(
    before: MadeFile | None,
    after: MadeFile | None,
    kept: Path,
    made: Path,
    ignored: Collection[str],
    tolerance: Tolerance,
) -> ComparedOutput:
    if before is None or after is None:
        file = before or after
        assert file is not None
        verdict = Verdict.ADDED if before is None else Verdict.MISSING
        return ComparedOutput(file.step, file.role, file.name, verdict)
    if before.sha256 == after.sha256:
        verdict, told = Verdict.SAME, list[str]()
    else:
        verdict, told = _content(before, after, kept / before.name, made / after.name, ignored, tolerance)
    told += _metadata(before, after, ignored, tolerance)
    return ComparedOutput(after.step, after.role, after.name, verdict, tuple(told))


def _content(
    before: MadeFile, after: MadeFile, kept: Path, made: Path, ignored: Collection[str], tolerance: Tolerance
) -> tuple[Verdict, list[str]]:
    sizes = f"{before.size_bytes:,} bytes, now {after.size_bytes:,}"
    if not kept.is_file():
        return Verdict.DIFFERS, [f"{sizes}, with another checksum; the capsule does not hold the recorded file"]
    if not made.is_file():
        return Verdict.DIFFERS, [f"{sizes}, with another checksum; the scratch of the run was removed"]
    differences = content_differences(kept, made, ignored=ignored, tolerance=tolerance)
    if differences is None:
        return Verdict.DIFFERS, [f"{sizes}, with another checksum"]
    return (Verdict.DIFFERS, differences) if differences else (Verdict.CONTENT, [])


def _metadata(before: MadeFile, after: MadeFile, ignored: Collection[str], tolerance: Tolerance) -> list[str]:
    """Say what differs of what is known of a file; a key without a value is as good as none.

    Of what went to a working area nothing is on record but its bytes.
    """
    if not before.metadata and not before.data_id and before.begins_at is None:
        return []
    pairs: dict[str, tuple[object, object]] = {
        "begins_at": (before.begins_at, after.begins_at),
        "ends_at": (before.ends_at, after.ends_at),
        "type": (before.type, after.type),
    }
    old, new = {**before.metadata, **before.data_id}, {**after.metadata, **after.data_id}
    pairs |= {key: (old.get(key), new.get(key)) for key in dict.fromkeys([*old, *new])}
    return [
        f"its {key} is {_written(two)}, and was {_written(one)}"
        for key, (one, two) in pairs.items()
        if not tolerance.bears(one, two) and key not in ignored
    ]


def _written(value: object) -> str:
    return "not known" if value is None else str(value)


def _endings(recorded: JobReport, report: JobReport, wanted: Collection[str]) -> Iterator[str]:
    before = {step.name: step for step in recorded.steps}
    after = {step.name: step for step in report.steps}
    for name in dict.fromkeys([*before, *after]):
        if name in wanted and (one := _ended(before.get(name))) != (two := _ended(after.get(name))):
            yield f"step {name} {two}, and {one} on record"
    if report.order.only is None and recorded.fate != report.fate:
        yield f"the attempt ended {report.fate or report.state}, and is {recorded.fate or recorded.state} on record"


def _ended(step: StepReport | None) -> str:
    if step is None:
        return "did not begin"
    if step.ended_at is None:
        return "did not end"
    return f"was ended by signal {step.signal}" if step.signal is not None else f"exited with code {step.exit_code}"


def _changed(before: JobOrder, after: JobOrder) -> Iterator[str]:
    now = {file.name: file for file in after.inputs}
    for file in before.inputs:
        if now[file.name].sha256 != file.sha256:
            yield f"input {file.role} {file.name} was replaced"
    if before.bundle is not None and after.bundle is not None and before.bundle.digest != after.bundle.digest:
        yield "the pipeline's folder was edited"
    if after.only is not None:
        yield f"it ran {', '.join(after.only)} alone"
    for taken in after.taken:
        yield f"it read {taken.role} {taken.name} from {taken.store}"
