"""One step of a job: its command line and environment, its process, and what it came to."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from nightmill.errors import JobFailed
from nightmill.execution.audit.verdict import judged, reached
from nightmill.execution.confine.outside import Reached
from nightmill.execution.context import JobContext
from nightmill.execution.differences import must_hold
from nightmill.execution.evidence import last_lines, readable
from nightmill.execution.faults import scratch_failed
from nightmill.execution.gate import check_outputs
from nightmill.execution.host import CORES, DEVICES
from nightmill.execution.index import VARIABLE as INDEX_VARIABLE
from nightmill.execution.launch.containers.opened import Container
from nightmill.execution.launch.containers.port import NotContained
from nightmill.execution.launch.plain import Launch, Process
from nightmill.execution.launch.watch import Ended, run_process
from nightmill.execution.logs.step import Printed
from nightmill.execution.looking import LookingPrograms
from nightmill.execution.network import network_paths
from nightmill.execution.new_software import new_software
from nightmill.execution.observe import Observer
from nightmill.execution.proc import SCRATCH_VARIABLE
from nightmill.execution.scratch import Scratch
from nightmill.execution.sidecar.lines import VARIABLE
from nightmill.model.error_rule import compiled
from nightmill.model.fate import Fate
from nightmill.model.journal import (
    Checked,
    MadeFile,
    StepBegan,
    StepEnded,
    StepObserved,
)
from nightmill.model.layout import INDEX, INPUTS, OUTPUTS, SIDECAR, TMP, seen
from nightmill.model.observed import Confined
from nightmill.model.order import ErrorName, JobOrder, OrderStep, later_names

_LANGUAGE: Final = ("LANG", "LC_ALL")
_INHERITED: Final = ("PATH", *_LANGUAGE, "LD_LIBRARY_PATH", "VIRTUAL_ENV", *DEVICES)


def run_step(order: JobOrder, step: OrderStep, scratch: Scratch, context: JobContext) -> list[MadeFile]:
    """Run a step and check what it made."""
    if context.stopping:
        raise JobFailed(f"step {step.name!r} was not begun: {context.stopping}", fate=Fate.CANCELLED)
    log = scratch.open_log()
    observer = Observer(order, step, scratch)
    ended, printed = _run(order, step, scratch, context, observer)
    failure, accepted, outside = _judged(order, step, scratch, context, observer, ended, printed)
    context.tell(
        StepEnded(
            attempt=order.attempt,
            at=context.now(),
            step=step.name,
            exit_code=ended.exit_code,
            signal=ended.signal,
            accepted=accepted,
            cost=ended.cost,
        )
    )
    made: list[MadeFile] = []
    with _telling(order, step, observer, ended.confined, outside.paths, printed, context):
        if failure is not None:
            _go_on(step, failure, accepted, printed)
        try:
            scratch.must_be_whole(step.name)
            if failure is None or accepted is not None:
                told = observer.read_sidecar()
                how = f"exited with code {ended.exit_code}, accepted as {accepted}," if accepted else "exited 0"
                spool = context.journal.path.parent
                programs = LookingPrograms(order, step, scratch, context.confiner, lambda: context.stopping)
                made = check_outputs(
                    order, step, observer.index, told, scratch, log, spool, programs=programs, ended=how
                )
                observer.made(made)
        except OSError as error:
            raise scratch_failed(error, step.name) from error
    context.tell(Checked(attempt=order.attempt, at=context.now(), step=step.name, files=tuple(made)))
    try:
        scratch.set_aside(step.name)
    except OSError as error:
        raise scratch_failed(error, step.name) from error
    return made


def _run(
    order: JobOrder, step: OrderStep, scratch: Scratch, context: JobContext, observer: Observer
) -> tuple[Ended, Printed]:
    """Run the process of a step to its end; return how it ended, and what it printed."""
    container = context.containers.of(step)
    argv = command_of(order, step, scratch.kept, container)
    environment = _environment(step, container, cores=context.host.cores_for(order.resources))
    stack = observer.software = context.stack(order, step, argv, environment, container)
    try:
        unknown = new_software(step, stack, context)
    except JobFailed as refused:
        Printed(order, step.name, scratch, context, f"== {refused.message}\n").end()
        raise

    def began(pid: int) -> None:
        context.tell(
            StepBegan(
                attempt=order.attempt,
                at=context.now(),
                step=step.name,
                argv=argv,
                pid=pid,
                software=stack,
                environment=environment,
            )
        )

    try:
        scratch.write_files(step.files)
        start_it, fault = _way(order, step, scratch, context, container, environment)
        scratch.write_index(observer.index)
    except OSError as error:
        raise scratch_failed(error, step.name) from error
    note = f"== {step.name} is started without the modules of warm: {fault}\n" if fault else ""
    note += "".join(f"== {step.name}: {each}\n" for each in (*unknown, *network_paths(step, context)))
    printed = Printed(order, step.name, scratch, context, f"{note}== {step.name}: {shlex.join(argv)}\n")
    try:
        with observer.watching():
            ended = run_process(
                argv,
                directory=scratch.work,
                scratch=scratch.path,
                environment=_placed(environment, scratch.path),
                output=printed.log,
                wall_seconds=step.wall_seconds,
                began=began,
                stopping=lambda: bool(context.stopping),
                looked=printed.look,
                start=start_it,
            )
    except NotContained as error:
        raise _not_contained(step, error, last_lines(printed.log, printed.start)) from error
    except (OSError, ValueError) as error:
        closed = context.confiner.closed_program(order, argv[0], environment.get("PATH"))
        raise _not_started(step, argv[0], error, closed) from error
    printed.end()
    return ended, printed


@contextmanager
def _telling(
    order: JobOrder,
    step: OrderStep,
    observer: Observer,
    confined: Confined,
    reached: tuple[str, ...],
    printed: Printed,
    context: JobContext,
) -> Iterator[None]:
    """Tell what is known of a step, whether or not it passes; then one that passes may fail for differences.

    Raises
    ------
    JobFailed
        Where there are differences that are to fail it.
    """
    failure: JobFailed | None = None
    try:
        yield
    except JobFailed as error:
        failure = error
        observer.failed(error)
    observed = observer.observation(confined, reached)
    if observer.libraries:
        software = context.stack_with(observer.software, observer.libraries, job=observer.scratch)
        observed = observed.model_copy(update={"software": software})
    if notes := observer.notes(observed.differences):
        printed.tell(notes.rstrip("\n"))
    context.tell(StepObserved(attempt=order.attempt, at=context.now(), step=step.name, observed=observed))
    if failure is not None:
        raise failure
    must_hold(step, observed.differences)


def _way(
    order: JobOrder,
    step: OrderStep,
    scratch: Scratch,
    context: JobContext,
    container: Container | None,
    environment: Mapping[str, str],
) -> tuple[Callable[[Launch], Process], str]:
    """Return how a step is started, and why its modules are not imported before, where they are not."""
    confiner, inside = context.confiner, container.confined(is_wanted=True) if container else None
    rules = confiner.rules(order, step, scratch, inside)
    if container is not None:
        has_network = step.network != "off"
        start = partial(container.start, scratch=scratch.path, network=has_network, rules=confiner.inside(rules))
        start_it = confiner.in_group(start, step, rules, is_parent=container.runtime.is_parent)
        return start_it, "it runs in an image" if step.warm else ""
    start_it = confiner.way(order, step, scratch, rules)
    if order.level == "audit":
        return start_it, "it is audited" if step.warm else ""
    return context.warm.way(step.warm, environment, start_it, rules)


def _not_started(step: OrderStep, program: str, error: OSError | ValueError, closed: str) -> JobFailed:
    if closed and isinstance(error, PermissionError):
        return JobFailed(
            f"step {step.name!r} cannot be started: {closed} lies outside of what steps may read",
            fate=Fate.STEP_NOT_STARTED,
            step=step.name,
            remedy=f"declare {Path(closed).parent} under confinement.reads of nightmill.yaml",
        )
    remedy = "is the program installed on this host, and on its PATH?"
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        remedy = f"its files are too many for one command line: let it look for them in {seen(INPUTS)}"
    why = error.strerror if isinstance(error, OSError) else str(error)
    return JobFailed(
        f"step {step.name!r} cannot be started: {program!r}: {why}",
        fate=Fate.STEP_NOT_STARTED,
        step=step.name,
        remedy=remedy,
    )


def _not_contained(step: OrderStep, error: NotContained, told: str) -> JobFailed:
    return JobFailed(
        f"step {step.name!r} cannot be started in image {step.image}: {told or error}",
        fate=Fate.STEP_NOT_STARTED,
        step=step.name,
        remedy="has the image the program, on its PATH, and all that it needs?",
    )


def command_of(
    order: JobOrder, step: OrderStep, made: Mapping[str, Sequence[str]], container: Container | None = None
) -> tuple[str, ...]:
    """Return the command line of a step as it is run.

    Parameters
    ----------
    made
        The names of what the steps before it made, by role.
    container
        What it runs in, where that is not this host as it is.
    """
    return tuple(_argv(order, step, made, container.python if container else sys.executable))


def _argv(order: JobOrder, step: OrderStep, made: Mapping[str, Sequence[str]], python: str) -> Iterator[str]:
    """Fill in a Python and names that are known by now; leave out what earlier steps were free not to make."""
    outputs = [output for each in order.steps for output in each.outputs]
    there = {name for names in made.values() for name in names}
    absent = {seen(OUTPUTS, name) for output in outputs for name in output.names if name not in there}
    later = {
        seen(OUTPUTS, later_names(output.role)): [seen(OUTPUTS, name) for name in made.get(output.role, ())]
        for output in outputs
        if output.later
    }
    for item in step.argv:
        if item in later:
            yield from later[item]
        elif item not in absent and (filled := _with_names(item, later)) is not None:
            yield filled.replace("{python}", python)


def _with_names(item: str, later: Mapping[str, Sequence[str]]) -> str | None:
    """Fill names into an item that has other text too, the first of each role; None where there is none."""
    for text, names in later.items():
        if text in item:
            if not names:
                return None
            item = item.replace(text, names[0])
    return item


def _environment(step: OrderStep, container: Container | None, *, cores: int) -> dict[str, str]:
    """Return a step's environment but for its places: of what this process knows, no more than a program needs."""
    known = _INHERITED if container is None else (*_LANGUAGE, *DEVICES)
    inherited = {name: os.environ[name] for name in known if name in os.environ}
    inherited |= container.environment if container else {}
    limits = dict.fromkeys(CORES, str(cores))  # or libraries take every core of the host
    return inherited | {"TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1"} | limits | dict(step.environment)


def environment_of(step: OrderStep, scratch: Path, container: Container | None = None, *, cores: int) -> dict[str, str]:
    """Return the whole environment of a step in the scratch of its job."""
    return _placed(_environment(step, container, cores=cores), scratch) | {SCRATCH_VARIABLE: str(scratch)}


def _placed(environment: Mapping[str, str], scratch: Path) -> dict[str, str]:
    tmp = f"{scratch}/{TMP}"
    return (
        {"HOME": tmp, "TMPDIR": tmp}
        | dict(environment)
        | {VARIABLE: f"{scratch}/{SIDECAR}", INDEX_VARIABLE: f"{scratch}/{INDEX}"}
    )


def _go_on(step: OrderStep, failure: JobFailed, accepted: ErrorName | None, printed: Printed) -> None:
    """Say in the log why the job goes on after a step that failed.

    Raises
    ------
    JobFailed
        Where it does not.
    """
    if accepted is None and (step.on_failure == "stop" or failure.fate is Fate.CANCELLED):
        raise failure
    what = failure.message.partition(": ")[0]
    # not a heading: rules look at what follows the last one of a step, also where the gate refuses what it made
    told = f"{what}; accepted as {accepted}" if accepted else f"{step.name}: {what}; going on without it"
    printed.tell(f"== {told}")


def _judged(
    order: JobOrder,
    step: OrderStep,
    scratch: Scratch,
    context: JobContext,
    observer: Observer,
    ended: Ended,
    printed: Printed,
) -> tuple[JobFailed | None, ErrorName | None, Reached]:
    """Return how a step failed, the rule by which it counts as good all the same, and what it reached for in vain."""
    failure = _failure(step, ended, printed, context)
    failure = observer.failing(failure) if failure is not None else None
    observer.trace(ended.traced)
    failure = judged(order, step, scratch.path, ended.traced, failure)
    accepted = _accepting(step, ended, failure, printed)
    if ended.traced is not None:
        return failure, accepted, Reached(reached(ended.traced))
    if failure is None or failure.fate != Fate.STEP_FAILED or accepted is not None:
        return failure, accepted, Reached()
    outside = context.confiner.reached(order, step, scratch, ended.confined, printed.last_text)
    if outside.unstaged:
        ending = failure.message.removeprefix(f"step {step.name!r} ")
        failure = JobFailed(
            f"step {step.name!r} wanted {outside.unstaged}; it {ending}",
            fate=Fate.UNSTAGED_INPUT,
            step=step.name,
            remedy="declare it as an input of the step and of its stage (software, under confinement.reads of"
            " nightmill.yaml): nothing is fetched for a step that runs",
        )
    return failure, None, outside


def _accepting(step: OrderStep, ended: Ended, failure: JobFailed | None, printed: Printed) -> ErrorName | None:
    """Return the rule by which a step counts as good that exited with an error, where the first that fits accepts."""
    if failure is None or failure.fate != Fate.STEP_FAILED:
        return None
    for rule in step.rules:
        if (not rule.exit or ended.exit_code in rule.exit) and (
            not rule.says or any(map(compiled(rule.says).search, (readable(failure.message), printed.last_text)))
        ):
            return rule.called if rule.accepts else None
    return None


def _failure(step: OrderStep, ended: Ended, printed: Printed, context: JobContext) -> JobFailed | None:
    """Return how a step failed for itself; None where it did not."""
    if ended.exit_code == 0 and not (ended.timed_out or ended.stopped):
        return None
    if ended.stopped:
        fate, what = Fate.CANCELLED, f"was ended: {context.stopping}"
    elif ended.timed_out and ended.asked_bytes is None:
        fate, what = Fate.WALL_LIMIT, f"ran longer than its {step.wall_seconds:g} s and was ended"
    elif ended.out_of_memory:
        fate, what = Fate.OUT_OF_MEMORY, ended.starved
    elif ended.signal is not None:
        fate, what = Fate.STEP_KILLED, f"was ended by {_signal_name(ended.signal)}"
    else:
        fate, what = Fate.STEP_FAILED, f"exited with code {ended.exit_code}"
    stage = printed.attempt.stage
    known = [
        error.says
        for error in context.errors
        if error.may_be(stage=stage, step=step.name, fate=fate, exit_code=ended.exit_code)
    ]
    tail = printed.evidence(known)
    return JobFailed(f"step {step.name!r} {what}{': ' + tail if tail else ''}", fate=fate, step=step.name)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, which have none
        return f"signal {number}"
