"""What one step may reach: worked out from its order, its scratch, and what the site says."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Final

from nightmill.execution.confine.landlock import (
    CHANGE,
    IOCTL_DEVICE,
    READ,
    READ_DIR,
    READ_FILE,
    RUN,
    TRUNCATE,
    WRITE_FILE,
)
from nightmill.execution.confine.places import Place, opened, software
from nightmill.execution.confine.seccomp import filter_of
from nightmill.execution.scratch import Scratch
from nightmill.model.confinement import NodeConfinement
from nightmill.model.layout import FILES, INDEX
from nightmill.model.order import JobOrder, OrderStep, later_names
from nightmill.model.store import Store

SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108 - shared memory is what it is for
_ACCELERATORS: Final = ("nvidia*", "dri", "kfd", "accel")


@dataclass(frozen=True)
class Rules:
    """What a step may reach.

    Parameters
    ----------
    software
        What every step may read and run.
    own
        What this one was given.
    writable
        Folders that it does not see read-only.
    sealed
        What in them it sees read-only all the same.
    ports
        TCP ports that it may connect to; None for any.
    filter
        What it may ask of the kernel.
    closes
        Whether all else is closed.
    empty
        Folders that it finds empty, and of which nobody else has what it puts there.
    memory_bytes
        What it may have of memory, where that is limited; None for any.
    """

    software: tuple[Place, ...]
    own: tuple[Place, ...]
    writable: tuple[str, ...]
    sealed: tuple[str, ...]
    ports: tuple[int, ...] | None
    filter: bytes
    closes: bool = True
    empty: tuple[str, ...] = ()
    memory_bytes: int | None = None


def rules_of(
    order: JobOrder, step: OrderStep, scratch: Scratch, confinement: NodeConfinement, closed: frozenset[Path]
) -> Rules:
    """Return what a step may reach.

    Parameters
    ----------
    closed
        What no step of this worker may reach, beside the stores of its order.
    """
    folder = str(scratch.path)
    shut = resolved(closed | stores_of(order.stores))
    shared = (SHARED_MEMORY,) if step.shared_memory else ()
    return Rules(
        software=software_of(order, confinement, closed),
        own=(*_own(order, step, scratch, shut), *[(each, CHANGE) for each in shared]),
        writable=(folder,),
        sealed=(str(scratch.inputs), str(scratch.outputs)),
        ports=None if step.network == "on" else () if step.network == "off" else step.network,
        filter=filter_of(step.network, step.sockets),
        empty=shared,
        memory_bytes=order.resources.memory_bytes,
    )


def rules_of_check(of_step: Rules, folder: str, file: str) -> Rules:
    """Return what a program may reach that looks at a file that a step made.

    It reads what the step might read, and that file, and writes into a folder of its own alone.
    """
    reads = [(path, access) for path, access in of_step.own if not access & WRITE_FILE]
    own = (*reads, (file, READ_FILE), (folder, CHANGE))
    return replace(of_step, own=own, writable=(folder,), sealed=(), empty=())


def software_of(order: JobOrder, confinement: NodeConfinement, closed: frozenset[Path]) -> tuple[Place, ...]:
    """Return what every step may reach, as :func:`rules_of` takes its parameters."""
    return software(confinement.reads, resolved(closed | stores_of(order.stores)))


@cache
def resolved(closed: frozenset[Path]) -> frozenset[Path]:
    """Return where places really are."""
    return frozenset(Path(os.path.realpath(each)) for each in closed)


def stores_of(stores: Mapping[str, Store]) -> frozenset[Path]:
    """Return the folders of those stores that are folders."""
    return frozenset(store.folder for store in stores.values() if store.folder is not None)


def _own(order: JobOrder, step: OrderStep, scratch: Scratch, closed: frozenset[Path]) -> Iterator[Place]:
    yield from ((str(scratch.work), CHANGE), (str(scratch.tmp), CHANGE))
    yield str(scratch.sidecar), READ_FILE | WRITE_FILE | TRUNCATE
    yield f"{scratch.path}/{INDEX}", READ_FILE
    staged = {file.staged_name for file in order.inputs}
    yield from _given(scratch.inputs, declared_inputs(order, step), staged)
    kept = {name for names in scratch.kept.values() for name in names}
    yield from _given(scratch.outputs, declared_outputs(step, scratch.kept), kept)
    if step.files:
        yield str(scratch.path / FILES), RUN
    if (bundle := scratch.bundle) is not None:
        yield os.path.realpath(bundle), RUN
    elif order.pipeline_dir:  # there is no bundle: a pipeline that is tried where it lies
        yield from opened(Path(os.path.realpath(order.pipeline_dir)), closed)
    if order.resources.accelerators:
        for pattern in _ACCELERATORS:
            for device in Path("/dev").glob(pattern):
                yield str(device), READ | WRITE_FILE | IOCTL_DEVICE


def _given(folder: Path, given: Collection[str], there: Collection[str]) -> Iterator[Place]:
    if len(given) == len(there):
        yield str(folder), READ
        return
    yield str(folder), READ_DIR
    for name in sorted(given):
        yield f"{folder}/{name}", READ_FILE


def declared_inputs(order: JobOrder, step: OrderStep) -> set[str]:
    """Return the names in the folder of inputs of what a step declares."""
    declared = set(step.inputs)
    return {file.staged_name for file in order.inputs if file.name in declared}


def declared_outputs(step: OrderStep, kept: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the names of what a step declares of what steps before it made."""
    declared = {name for role, names in kept.items() if later_names(role) in step.inputs for name in names}
    patterns = [each for each in step.inputs if any(sign in each for sign in "*?[")]
    for name in (name for names in kept.values() for name in names):
        if name in step.inputs or any(fnmatchcase(name, pattern) for pattern in patterns):
            declared.add(name)
    return declared
