"""The gate: what a step made must be there, whole and what the plan said. Exit code 0 is not enough."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Final

from nightmill.errors import FileRefused, JobFailed
from nightmill.execution.evidence import readable
from nightmill.execution.scratch import Scratch
from nightmill.files.gate import inspect_file
from nightmill.model.fate import Fate
from nightmill.model.journal import MadeFile
from nightmill.model.order import JobOrder, OrderOutput, OrderStep, stored_path

LISTED_NAMES: Final = 20
"""How many of the files that are there a message names."""


def check_outputs(order: JobOrder, step: OrderStep, scratch: Scratch, log: int) -> list[MadeFile]:
    """Check every declared output of a step that exited 0, and move what passed to ``outputs/``.

    Parameters
    ----------
    log
        The open log, which is told what of a header is not a value and left out.

    Returns
    -------
    list of MadeFile
        The files that are there, in the order of the declarations.

    Raises
    ------
    JobFailed
        Where a required output is missing, or one that is there is not what it should be; nothing was moved.
    """
    if scratch.work.is_symlink() or not scratch.work.is_dir():
        raise JobFailed(
            f"step {step.name!r} removed or replaced its working folder", fate=Fate.BAD_OUTPUT, step=step.name
        )
    scratch.work.chmod(0o700)
    found = [(output, _find(output, scratch.work)) for output in step.outputs]
    missing = [_lack(output, files) for output, files in found if len(files) < _least(output)]
    if missing:
        raise JobFailed(
            f"step {step.name!r} exited 0 and did not make {'; '.join(missing)} (its folder holds"
            f" {_listing(scratch.work)})",
            fate=Fate.MISSING_OUTPUT,
            step=step.name,
            remedy="look at the log; a step must make each required output, or exit with another code than 0",
        )
    checked = [
        (path, _check(order, step, output, path, name, log))
        for output, files in found
        for path, name in _named(step, output, files)
    ]
    for path, made in checked:
        scratch.keep(path, made.name)
    return [made for _path, made in checked]


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    more = f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    return ", ".join(islice(names, LISTED_NAMES)) + more if names else "nothing"


def _least(output: OrderOutput) -> int:
    return output.min if output.required else 0


def _find(output: OrderOutput, work: Path) -> list[Path]:
    if output.produces:
        return sorted(path for path in work.iterdir() if fnmatchcase(path.name, output.produces) and not path.is_dir())
    path = work / output.names[0]
    return [path] if path.exists() or path.is_symlink() else []


def _lack(output: OrderOutput, files: list[Path]) -> str:
    if output.produces:
        return f"{output.role} ({output.type}): {len(files)} of at least {output.min} files {output.produces!r}"
    return f"{output.role} ({output.type}) {output.names[0]}"


def _named(step: OrderStep, output: OrderOutput, files: list[Path]) -> Iterator[tuple[Path, str]]:
    if len(files) > len(output.names):
        raise JobFailed(
            f"step {step.name!r} made {len(files)} files {output.produces!r} for {output.role}, at most"
            f" {len(output.names)} are declared",
            fate=Fate.BAD_OUTPUT,
            step=step.name,
            remedy="raise the output's 'max' in the pipeline",
        )
    yield from zip(files, output.names, strict=False)


def _check(order: JobOrder, step: OrderStep, output: OrderOutput, path: Path, name: str, log: int) -> MadeFile:
    try:
        facts = path.lstat()
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
            kind = "a symbolic link" if stat.S_ISLNK(facts.st_mode) else "a link to another file or no regular file"
            raise _refused(step, output, f"{path.name} is {kind}")
        found = inspect_file(path, order.file_types[output.type])
    except FileRefused as error:
        raise _refused(step, output, error.message.replace(f"{path.parent}/", "")) from error
    metadata = found.metadata
    _agree(step, output, path, metadata.data_id)
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
        produced_name=readable(path.name) if path.name != name else "",
        data_id={**metadata.data_id, **output.data_id},
        metadata=metadata.values,
        begins_at=begins_at,
        ends_at=ends_at,
    )


def _agree(step: OrderStep, output: OrderOutput, path: Path, found: Mapping[str, str | int]) -> None:
    for dimension, value in found.items():
        planned = output.data_id.get(dimension, value)
        if planned != value:
            raise _refused(
                step, output, f"{path.name}: its header says {dimension}={value}, the plan {dimension}={planned}"
            )


def _refused(step: OrderStep, output: OrderOutput, why: str) -> JobFailed:
    return JobFailed(
        f"step {step.name!r} made no good {output.role} ({output.type}): {why}", fate=Fate.BAD_OUTPUT, step=step.name
    )
