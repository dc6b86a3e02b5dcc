"""Whether a report can be that of its own order, as far as the two alone can tell.

A journal is a file: copied, cut, mended by hand, or forged. What contradicts its own order is never believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from nightmill.model.attachment import JUNK
from nightmill.model.dimensions import DIMENSIONS
from nightmill.model.fate import Fate
from nightmill.model.journal import MadeFile
from nightmill.model.order import JobOrder, stored_path
from nightmill.model.report import JobReport, StepReport
from nightmill.model.states import AttemptState


def misfit(report: JobReport, stacks: Collection[str]) -> str:
    """Say how a report contradicts its order; empty where it does not.

    A report that fits names no file and no place but those of its order, each once, tells of its order's steps alone,
    and claims no end without what belongs to it.

    Parameters
    ----------
    stacks
        Digests of the software of which its steps must be.
    """
    order = report.order
    if order.attempt != report.attempt:
        return f"its order is that of {order.attempt}"
    if strange := [file.name for file in (*report.made, *report.intended) if not _is_named(file, order)]:
        return f"{strange[0]} is not a file that its order names, with this type, step and place"
    for files in (report.made, report.intended):
        if again := [name for name, count in Counter(file.name for file in files).items() if count > 1]:
            return f"{again[0]} is told twice"
    return _misfit_of_steps(report, stacks) or _misfit_of_the_end(report)


def _is_named(file: MadeFile, order: JobOrder) -> bool:
    if not file.data_id.keys() <= DIMENSIONS.keys():
        return False
    if not file.step:
        log = (order.log_name, "log", "log", order.log_store, order.log_path)
        junk = (order.junk_name, JUNK, JUNK, order.log_store, order.junk_path)
        told = (file.name, file.role, file.type, file.store, file.path)
        return told == log or (told == junk and order.junk == "tar")
    return any(
        output.is_named(file.name, {**file.metadata, **file.data_id})
        and file.type == output.type
        and file.store == output.store
        and file.path == (stored_path(output.directory, file.name) if output.store else "")
        for step in order.steps
        if step.name == file.step
        for output in step.outputs
        if output.role == file.role
    )


def _misfit_of_steps(report: JobReport, stacks: Collection[str]) -> str:
    began = [step.name for step in report.steps]
    if began != [step.name for step in report.order.wanted_steps][: len(began)]:
        return f"its steps are told as {', '.join(began)}, which is not what its order says"
    if unknown := [step.name for step in report.steps if not {step.software, step.known_software} <= {*stacks}]:
        return f"nothing is told of the software that step {unknown[0]!r} ran with"
    if early := [file for file in (*report.made, *report.intended) if file.step and file.step not in began]:
        return f"{early[0].name} is told of step {early[0].step!r}, which did not begin"
    for step in report.steps:
        if step.accepted and not _accepts(report.order, step):
            return f"step {step.name!r} is told as accepted by {step.accepted}, which its order does not say"
    return ""


def _accepts(order: JobOrder, ran: StepReport) -> bool:
    rules = [rule for step in order.steps if step.name == ran.name for rule in step.rules if rule.accepts]
    return any(rule.called == ran.accepted and ran.exit_code in rule.exit for rule in rules)


def _misfit_of_the_end(report: JobReport) -> str:
    if report.fate is not None and report.fate is not Fate.PUBLISHED:
        kept = report.published if report.ended_at else report.intended
        if outputs := [file.name for file in kept if file.step]:
            return f"it is told as {report.fate} and to keep {outputs[0]}"
    if report.ended_at is None:
        return ""
    if report.fate is None or report.fate.attempt_state is not report.state:
        return f"it is told to have ended as {report.state}, with the fate {report.fate}"
    if report.state is AttemptState.PUBLISHED and (lacking := _lacking(report.order, report.published)):
        return f"it is told as published without {lacking}"
    return ""


def _lacking(order: JobOrder, published: Iterable[MadeFile]) -> str:
    there = Counter((file.step, file.role) for file in published)
    for step in order.wanted_steps:
        for output in step.outputs:
            least = (output.min if output.produces else 1) if output.required and output.store else 0
            if there[step.name, output.role] < least:
                return f"its output {output.role} ({output.type})"
    return ""
