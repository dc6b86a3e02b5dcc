"""The software that a step runs with, as this host has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from nightmill import __version__
from nightmill.execution.launch.containers.opened import Container
from nightmill.execution.software import host
from nightmill.execution.software.programs import Program, find, told_version
from nightmill.execution.software.python import Python, python_of
from nightmill.model.software import Stack


@dataclass(frozen=True)
class Sighting:
    """What of the software of a step is looked at each time: as long as all of it is the same, so is its stack.

    Parameters
    ----------
    program
        That of its command; None where the step does not have it from this host.
    declared
        Those that it declares.
    python
        What its command is run by, where that is a Python.
    environment
        Where declared programs are asked: they are asked in it.
    """

    program: Program | None
    declared: tuple[Program | None, ...]
    python: Python | None
    environment: tuple[tuple[str, str], ...]


def sight(
    argv: tuple[str, ...],
    declared: Mapping[str, tuple[str, ...]],
    environment: Mapping[str, str],
    container: Container | None = None,
) -> Sighting:
    """Look for the programs of a step; a Python is asked what it has once a process, and when that may have changed.

    Parameters
    ----------
    declared
        Programs that the step declares, to the argv that prints their version.
    environment
        That of the step, without its places.
    container
        What the step runs in: there nothing is looked for, the digest of the image tells it.
    """
    own = tuple(environment.items()) if declared else ()
    if container is not None:
        return Sighting(None, (), None, own)
    path = environment.get("PATH")
    program = find(argv[0], path)
    return Sighting(
        program,
        tuple([find(command[0], path) for command in declared.values()]),
        python_of(program, environment) if program is not None else None,
        own,
    )


def stack_of(
    sighting: Sighting,
    declared: Mapping[str, tuple[str, ...]],
    container: Container | None = None,
    *,
    bundle: str = "",
    image: Mapping[str, str] | None = None,
) -> Stack:
    """Return the stack of a step.

    Parameters
    ----------
    sighting
        What was seen of its programs.
    declared
        Programs that it declares: each is asked for its version once a process and environment, in the container where
        there is one.
    bundle
        Digest of the pipeline's folder.
    image
        What is told of an image that is not used.
    """
    asked = zip_longest(declared.items(), sighting.declared)  # in a container none was looked for
    programs = {
        name: told_version(command, program, sighting.environment, container) for (name, command), program in asked
    }
    found = [each for each in (sighting.program, *sighting.declared) if each is not None]
    python = sighting.python
    programs |= {each.path: each.sha256 for each in found if python is None or each.path != python.program.path}
    return Stack(
        bundle={"digest": bundle} if bundle else {},
        interpreter=python.told if python is not None else {},
        distributions={"nightmill": __version__, **(python.distributions if python is not None else {})},
        programs=programs,
        container=container.packages if container is not None else image or {},
        modules=host.modules(),
        os={} if container is not None else host.system(),
        kernel=host.kernel(),
        cpu=host.cpu(),
    )


def with_libraries(stack: Stack, paths: Iterable[str]) -> Stack:
    """Return a stack with the shared libraries that a step of it really loaded.

    Parameters
    ----------
    paths
        Of the libraries, whole; those that are not there any more are left out.
    """
    found = [program for path in sorted(set(paths)) if (program := find(path, None)) is not None]
    if not found:
        return stack
    return Stack.model_validate({**stack.content, "libraries": {each.path: each.sha256 for each in found}})
