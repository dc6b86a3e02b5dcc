"""The gate: what a step made must be there, whole and what the plan said. Exit code 0 is not enough."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from nightmill.errors import FileRefused, JobFailed, PluginFault
from nightmill.execution.attachments import attach_rows
from nightmill.execution.descriptors import names_in, opened_file, path_of
from nightmill.execution.evidence import on_one_line
from nightmill.execution.scratch import Scratch
from nightmill.files.inspection import inspect_file
from nightmill.files.naming import name_of_content
from nightmill.model.attachment import Attachment
from nightmill.model.content import StepInput
from nightmill.model.dimensions import split
from nightmill.model.fate import Fate
from nightmill.model.journal import MadeFile, MetadataValue
from nightmill.model.layout import INPUTS, OUTPUTS, WORK
from nightmill.model.order import JobOrder, OrderOutput, OrderStep, stored_path

LISTED_NAMES: Final = 20
"""How many of the files that are there a message names."""


def check_outputs(order: JobOrder, step: OrderStep, scratch: Scratch, log: int, spool: Path) -> list[MadeFile]:
    """Check every declared output of a step that exited 0, and move what passed to ``outputs/``.

    Parameters
    ----------
    log
        The open log, which is told what of a header is not a value and left out.
    spool
        Where the rows of files go that their types want on record, durably.

    Returns
    -------
    list of MadeFile
        The files that are there, in the order of the declarations.

    Raises
    ------
    JobFailed
        Where a required output is missing, or one that is there is not what it should be; nothing was moved.
    OSError
        Where the working folder cannot be looked into.
    """
    with scratch.opened(WORK) as work, scratch.opened(INPUTS) as staged, scratch.opened(OUTPUTS) as kept:
        there = names_in(work)
        found = [(output, _find(output, there, work)) for output in step.outputs]
        missing = [_lack(output, files) for output, files in found if len(files) < _least(output)]
        if missing:
            raise JobFailed(
                f"step {step.name!r} exited 0 and did not make {'; '.join(missing)} (its folder holds"
                f" {_listing(there)})",
                fate=Fate.MISSING_OUTPUT,
                step=step.name,
                remedy="look at the log; a step must make each required output, or exit with another code than 0",
            )
        inputs = tuple(_inputs(order, step, staged, kept))
        checked = [
            (own_name, _check(order, step, output, own_name, name, work, log, spool, inputs))
            for output, files in found
            for own_name, name in _named(step, output, files)
        ]
        for own_name, made in checked:
            what = f"{made.role} ({made.type}) {made.name} of step {step.name!r}"
            scratch.keep(own_name, work, made.name, what, made.sha256)
    return [made for _own_name, made in checked]


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    return ", ".join(map(on_one_line, names[:LISTED_NAMES])) + more if names else "nothing"


def _least(output: OrderOutput) -> int:
    return output.min if output.required else 0


def _find(output: OrderOutput, there: Sequence[str], work: int) -> list[str]:
    if output.produces:
        return [name for name in there if fnmatchcase(name, output.produces) and not _is_folder(name, work)]
    return [name for name in output.names[:1] if name in there]


def _is_folder(name: str, work: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=work, follow_symlinks=False).st_mode)


def _lack(output: OrderOutput, files: list[str]) -> str:
    if output.produces:
        return f"{output.role} ({output.type}): {len(files)} of at least {output.min} files {output.produces!r}"
    return f"{output.role} ({output.type}) {output.names[0]}"


def _named(step: OrderStep, output: OrderOutput, files: list[str]) -> Iterator[tuple[str, str]]:
    if len(files) > len(output.names):
        raise JobFailed(
            f"step {step.name!r} made {len(files)} files {output.produces!r} for {output.role}, at most"
            f" {len(output.names)} are declared",
            fate=Fate.BAD_OUTPUT,
            step=step.name,
            remedy="raise the output's 'max' in the pipeline",
        )
    yield from zip(files, output.names, strict=False)


def _check(
    order: JobOrder,
    step: OrderStep,
    output: OrderOutput,
    own_name: str,
    name: str,
    work: int,
    log: int,
    spool: Path,
    inputs: Sequence[StepInput],
) -> MadeFile:
    called, file_type = on_one_line(own_name), order.file_types[output.type]
    attachments: tuple[Attachment, ...] = ()
    try:
        with opened_file(own_name, work, alone=True) as descriptor:
            found = inspect_file(called, file_type, descriptor, inputs=inputs)
            if file_type.membership is not None:
                attachments = (attach_rows(called, file_type, descriptor, spool),)
            os.fchmod(descriptor, 0o444)
    except FileRefused as error:
        # what the reading of a file advises is about files that arrive: transfer it again
        advice = error.remedy if error.check or isinstance(error, PluginFault) else ""
        raise _refused(step, output, error.message, advice) from error
    metadata = found.metadata
    if found.compression is not None and name_of_content(name, found.compression) != name:
        how = f"compressed with {found.compression}" if found.compression else "not compressed"
        raise _refused(step, output, f"{called} is {how}, and its name is {name}")
    dimensions, keys = split(output.data_id)
    _agree(step, output, called, {**metadata.data_id, **metadata.values})
    for each in metadata.left_out:
        os.write(log, f"== {step.name}: left out of the metadata of {name}: {each}\n".encode())
    begins_at, ends_at = metadata.begins_at, metadata.ends_at
    if begins_at is None and ends_at is None:
        begins_at, ends_at = order.begins_at, order.ends_at
    return MadeFile(
        name=name,
        role=output.role,
        type=output.type,
        step=step.name,
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
    )


def _inputs(order: JobOrder, step: OrderStep, staged: int, kept: int) -> Iterator[StepInput]:
    """Yield what the step could read, by paths into the open folders: nothing of it has changed since."""
    taken = {file.name: file for file in order.inputs}
    made = {name: output for each in order.steps for output in each.outputs for name in output.names}
    there = set(names_in(kept))
    for name in step.inputs:
        if (file := taken.get(name)) is not None:
            yield StepInput(name, file.role, file.type, f"{path_of(staged)}/{name}")
        elif name in there:  # an optional output of an earlier step may not be
            yield StepInput(name, made[name].role, made[name].type, f"{path_of(kept)}/{name}")


def _agree(step: OrderStep, output: OrderOutput, called: str, found: Mapping[str, MetadataValue]) -> None:
    for key, planned in output.data_id.items():
        value = found.get(key)
        if value is not None and value != planned:
            raise _refused(step, output, f"{called}: its header says {key}={value}, the plan {key}={planned}")


def _refused(step: OrderStep, output: OrderOutput, why: str, remedy: str = "") -> JobFailed:
    return JobFailed(
        f"step {step.name!r} made a bad {output.role} ({output.type}): {why}",
        fate=Fate.BAD_OUTPUT,
        step=step.name,
        remedy=remedy,
    )
