"""The gate: what a step made must be there, whole and what the plan said. Exit code 0 is not enough."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

from nightmill.errors import BadName, FileRefused, JobFailed, PluginFault
from nightmill.execution.attachments import attach_rows, attach_told
from nightmill.execution.descriptors import names_in, opened_file, path_of
from nightmill.execution.evidence import on_one_line
from nightmill.execution.finding import Wanted, find_files
from nightmill.execution.looking import LookingPrograms
from nightmill.execution.scratch import Scratch
from nightmill.execution.sidecar.lines import VARIABLE
from nightmill.execution.sidecar.outputs import Told, kind_of
from nightmill.files.checksum import fingerprint
from nightmill.files.computed import Value
from nightmill.files.inspection import inspect_file
from nightmill.files.naming import Template, check_name, name_of_content
from nightmill.files.told import told_value
from nightmill.model.attachment import Attachment
from nightmill.model.content import Metadata, StepInput
from nightmill.model.dimensions import KeyValue, split
from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType
from nightmill.model.index import IndexInput, StepIndex
from nightmill.model.journal import MadeFile
from nightmill.model.layout import BUNDLE, INPUTS, OUTPUTS, WORK, seen
from nightmill.model.order import JobOrder, OrderOutput, OrderStep, stored_path

LISTED_NAMES: Final = 20
"""How many of the files that are there a message names."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """A file that passed, by the step's own name for it."""

    own_name: str
    name: str
    sha256: str
    made: MadeFile | None
    """None for a scratch file."""


def check_outputs(
    order: JobOrder,
    step: OrderStep,
    index: StepIndex,
    told: Mapping[str, Told],
    scratch: Scratch,
    log: int,
    spool: Path,
    *,
    programs: LookingPrograms,
    ended: str = "exited 0",
) -> list[MadeFile]:
    """Check every declared output of a step that ended well, and move what passed to ``outputs/``.

    Parameters
    ----------
    index
        What the step could read.
    told
        What it told of the files that it made, by its own names for them.
    log
        The open log, which is told what of a header is not a value and left out.
    spool
        Where the rows of files go that their types want on record, durably.
    programs
        What runs the programs that are to look at files.
    ended
        How it ended, in words.

    Returns
    -------
    list of MadeFile
        The files that are there, in the order of the declarations; scratch files are not among them.

    Raises
    ------
    JobFailed
        Where a required output is missing, or one that is there is not what it should be; nothing was moved.
    OSError
        Where the working folder cannot be looked into.
    """
    with scratch.opened(WORK) as work, scratch.opened(INPUTS) as staged, scratch.opened(OUTPUTS) as kept:
        there = names_in(work)
        found = find_files(order, step, there, work, told)
        missing = [_lack(each.output, each.files) for each in found if len(each.files) < _least(each.output)]
        if missing:
            raise JobFailed(
                f"step {step.name!r} {ended} and did not make {'; '.join(missing)} (its folder holds"
                f" {_listing(there)})",
                fate=Fate.MISSING_OUTPUT,
                step=step.name,
                remedy="look at the log; a step must make each required output, or exit with another code than 0",
            )
        inputs = tuple([_input(each, staged, kept) for each in index.inputs])
        bundle = str(scratch.path / BUNDLE) if order.bundle is not None else order.pipeline_dir
        gate = _Gate(order, step, work, log, spool, inputs, told, programs, bundle)
        checked = [(each.output, passed) for each in found for passed in gate.check(each)]
        programs.must_go_on()
        gate.end()
        _must_be_distinct(order, step, checked, scratch)
        for output, passed in checked:
            what = f"{output.called} {passed.name} of step {step.name!r}"
            scratch.keep(passed.own_name, work, passed.name, output.role, what, passed.sha256)
            if (made := passed.made) is not None:
                keys = {key: value for key in output.tells if (value := made.metadata.get(key)) is not None}
                scratch.told[made.name] = {**made.data_id, **keys}
    return [passed.made for _output, passed in checked if passed.made is not None]


def _must_be_distinct(
    order: JobOrder, step: OrderStep, checked: Sequence[tuple[OrderOutput, _Passed]], scratch: Scratch
) -> None:
    """Refuse names that are those of other files of the attempt: only those that files tell can be."""
    names = {order.log_name: "the log"}
    for output, passed in checked:
        own = on_one_line(passed.own_name)
        other = "a file of a step before" if scratch.has_kept(passed.name) else names.get(passed.name)
        names[passed.name] = own
        if other is not None:
            raise JobFailed(
                f"step {step.name!r} made {own} for {output.called}, and it would have the name of {other}:"
                f" {passed.name}",
                fate=Fate.BAD_OUTPUT,
                step=step.name,
                remedy="two files of an attempt have two names: let what they tell, or their own names, differ",
            )


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    return ", ".join(map(on_one_line, names[:LISTED_NAMES])) + more if names else "nothing"


def _least(output: OrderOutput) -> int:
    return output.min if output.required else 0


def _lack(output: OrderOutput, files: list[str]) -> str:
    if output.produces:
        where = f", where {output.where}" if output.where else ""
        return f"{output.called}: {len(files)} of at least {output.min} files {output.produces!r}{where}"
    return f"{output.called} {output.names[0]}"


@dataclass(frozen=True)
class _Gate:
    """Checks the files of a step, with what it read and what it told."""

    order: JobOrder
    step: OrderStep
    work: int
    log: int
    spool: Path
    inputs: Sequence[StepInput]
    told: Mapping[str, Told]
    programs: LookingPrograms
    pipeline_dir: str = ""
    """The bundle, as the gate reaches it; empty where there is none."""
    bad: list[JobFailed] = field(default_factory=list)
    """What is wrong with files that did not pass."""

    def end(self) -> None:
        """Refuse the outputs of the step where files did not pass: whoever mends it sees all of them at once."""
        if len(self.bad) == 1:
            raise self.bad[0]
        if self.bad:
            alike = f"step {self.step.name!r} made a bad "
            told = [f"({number}) {str(each).removeprefix(alike)}" for number, each in enumerate(self.bad, 1)]
            more = f"; and {len(told) - LISTED_NAMES} more" if len(told) > LISTED_NAMES else ""
            raise JobFailed(
                f"step {self.step.name!r} made {len(told)} bad files: {'; '.join(told[:LISTED_NAMES])}{more}",
                fate=Fate.BAD_OUTPUT,
                step=self.step.name,
            )

    def check(self, wanted: Wanted) -> Iterator[_Passed]:
        """Check the files of an output, and yield each that passed with its name."""
        output, files = wanted.output, wanted.files
        most = len(output.names) if output.max is None else output.max
        if len(files) > most:
            raise JobFailed(
                f"step {self.step.name!r} made {len(files)} files {output.produces!r} for {output.role}, at most {most}"
                " are declared",
                fate=Fate.BAD_OUTPUT,
                step=self.step.name,
                remedy="raise the output's 'max' in the pipeline",
            )
        for place, own_name in enumerate(files):
            try:
                if not output.type:
                    yield self._scratch_file(own_name)
                else:
                    yield self._file(wanted, own_name, output.names[place] if output.names else "")
            except FileRefused as error:
                # what the reading of a file advises is about files that arrive: transfer it again
                advice = error.remedy if error.check or isinstance(error, PluginFault) else ""
                self.bad.append(self._refused(output, error.message, advice))
            except BadName as error:
                self.bad.append(self._refused(output, f"{on_one_line(own_name)}: {error.message}", error.remedy))
            except JobFailed as error:
                self.bad.append(error)

    def _scratch_file(self, own_name: str) -> _Passed:
        """Take a scratch file as it is: a plain file, with a name that does no harm in a list or an argument."""
        check_name(own_name)
        with opened_file(own_name, self.work, alone=True) as descriptor:
            _size, digest = fingerprint(path_of(descriptor))
            os.fchmod(descriptor, 0o444)
        return _Passed(own_name, own_name, digest, None)

    def _file(self, wanted: Wanted, own_name: str, name: str) -> _Passed:
        order, output = self.order, wanted.output
        called, file_type = on_one_line(own_name), order.file_types[output.type]
        sources = [("the plan", output.data_id), ("its name", self._in_name(wanted, own_name))]
        if (line := self.told.get(own_name)) is not None:
            sources.append((line.source, line.values))
        only_told = {name for name, key in file_type.metadata.items() if key.told}
        told: dict[str, Value] = {key: value for key, value in output.data_id.items() if key in only_told}
        for _source, values in sources[1:]:
            told |= values
        attachments: tuple[Attachment, ...] = ()
        with opened_file(own_name, self.work, alone=True) as descriptor:
            os.fchmod(descriptor, 0o444)
            own = bool(output.produces)
            found = inspect_file(
                called,
                file_type,
                descriptor,
                inputs=self.inputs,
                told=told,
                own_name=own,
                pipeline_dir=self.pipeline_dir,
                programs=self.programs,
            )
            if file_type.membership is not None and file_type.membership.told:
                attachments = (attach_told(called, file_type, line.rows if line else (), self.spool),)
            elif file_type.membership is not None:
                attachments = (attach_rows(called, file_type, descriptor, self.spool),)
        metadata = found.metadata
        itself = "its header or name" if file_type.name_pattern and own else "its header"
        known = self._agreed(output, called, [*sources, (itself, _values(metadata))])
        self._must_tell(output, called, file_type, known)
        name = name or _opened(output.open_name).render(known)
        if found.compression is not None and name_of_content(name, found.compression) != name:
            how = f"compressed with {found.compression}" if found.compression else "not compressed"
            raise self._refused(output, f"{called} is {how}, and its name is {name}")
        dimensions, keys = split({key: known[key] for key in (*output.data_id, *output.tells)})
        for each in metadata.left_out:
            os.write(self.log, f"== left out of the metadata of {name}: {each}\n".encode())
        for warning in found.warnings:
            told_so = f"== check {warning.check} warns of {name}: {on_one_line(warning.message)}\n"
            os.write(self.log, told_so.encode())
        begins_at, ends_at = metadata.begins_at, metadata.ends_at
        if begins_at is None and ends_at is None:
            begins_at, ends_at = order.begins_at, order.ends_at
        made = MadeFile(
            name=name,
            role=output.role,
            type=output.type,
            step=self.step.name,
            size_bytes=found.size_bytes,
            sha256=found.sha256,
            store=output.store,
            path=stored_path(output.directory, name) if output.store else "",
            produced_name=called if own_name != name else "",
            data_id={**metadata.data_id, **dimensions},
            metadata={**metadata.values, **keys},
            begins_at=begins_at,
            ends_at=ends_at,
            attachments=attachments,
            footprints=found.footprints,
            warnings=found.warnings,
        )
        return _Passed(own_name, name, found.sha256, made)

    def _in_name(self, wanted: Wanted, own_name: str) -> dict[str, Value]:
        output, file_type = wanted.output, self.order.file_types[wanted.output.type]
        values: dict[str, Value] = {}
        try:
            told = wanted.told_by(own_name)
        except BadName as error:
            raise self._refused(output, error.message) from error
        for key, value in told.items():
            try:
                kind = kind_of(key, file_type, output.data_id)
                values[key] = told_value(value, key, kind, file_type.metadata.get(key))
            except ValueError as error:
                raise self._refused(output, f"{on_one_line(own_name)}: the {key} in its name {error}") from error
        return values

    def _agreed(
        self, output: OrderOutput, called: str, sources: Sequence[tuple[str, Mapping[str, Value]]]
    ) -> dict[str, KeyValue]:
        """Put together what several sources say of a file; refuse two that contradict each other."""
        known: dict[str, KeyValue] = {}
        said_by: dict[str, str] = {}
        for source, values in sources:
            for key, each in values.items():
                value = _plain(each)
                other = known.setdefault(key, value)
                if value != other:
                    raise self._refused(output, f"{called}: {source} says {key}={value}, {said_by[key]} {key}={other}")
                said_by.setdefault(key, source)
        return known

    def _must_tell(self, output: OrderOutput, called: str, file_type: FileType, known: Mapping[str, KeyValue]) -> None:
        for key in output.tells:
            if key not in known:
                wanted = file_type.metadata.get(key)
                cards = " or ".join(wanted.keywords) if wanted is not None else ""
                header = f"its header ({cards})" if cards else "its header (its type asks for no keyword of it)"
                raise self._refused(
                    output,
                    f"nothing tells the {key} of {called}: neither {header}, nor its name, nor the sidecar"
                    f" (${VARIABLE})",
                )

    def _refused(self, output: OrderOutput, why: str, remedy: str = "") -> JobFailed:
        return JobFailed(
            f"step {self.step.name!r} made a bad {output.called}: {why}",
            fate=Fate.BAD_OUTPUT,
            step=self.step.name,
            remedy=remedy,
        )


def _values(metadata: Metadata) -> dict[str, Value]:
    """Return everything that a header says and has a value."""
    times = {"begins_at": metadata.begins_at, "ends_at": metadata.ends_at}
    found = {**metadata.data_id, **metadata.values, **times}
    return {key: value for key, value in found.items() if value is not None}


def _plain(value: Value) -> KeyValue:
    """Return a value as a data ID has it."""
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value


@lru_cache(maxsize=64)
def _opened(open_name: str) -> Template:
    return Template(open_name, opened=True)


def _input(file: IndexInput, staged: int, kept: int) -> StepInput:
    """Return what the step could read, by a path into an open folder: nothing of it has changed since."""
    folder, _, name = file.path.rpartition("/")
    within = staged if folder == seen(INPUTS) else kept
    return StepInput(file.name, file.roles[0], file.type, f"{path_of(within)}/{name}")
