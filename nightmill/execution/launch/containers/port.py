"""What a runtime of containers is to nightmill.

A runtime puts its own command line around that of a step. It is started outside of any confinement, since it mounts;
the shim, which confines itself and then becomes the step, has its place between both command lines.
"""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Final, Protocol

from nightmill.errors import RequestRefused
from nightmill.execution.confine.shim import Shim
from nightmill.execution.launch.containers.told import ToldByCode
from nightmill.execution.launch.plain import Launch
from nightmill.model.container import ImageCopy
from nightmill.model.layout import BUNDLE, FILES, INDEX, INPUTS, LEFT, ORDER, OUTPUTS, RULES

SHIM: Final = Path("/.nightmill-shim")
"""Where a container has the program that confines itself."""


@dataclass(frozen=True)
class Shown:
    """A folder or file of the host that a container sees.

    Parameters
    ----------
    source
        On the host.
    target
        In the container.
    """

    source: Path
    target: Path
    writable: bool = False


class NotContained(OSError):
    """The runtime did not get as far as the step's program; its own words are in the log."""


class Runtime(Protocol):
    """Runs programs in images.

    The program sees the image, what it is shown, and nothing else of the host: no processes, and no network unless that
    is asked for. It has the user of this process, no privilege, and the environment of its launch. All its processes
    end with it, and with the process that started it.
    """

    called: str
    """Its name, as a site and the record say it."""
    path: str
    """The PATH of a step, where it says none; empty where images know their own."""
    is_parent: bool
    """Whether the processes of a container come of the command that starts it, so that its control group is theirs."""

    def version(self) -> str:
        """Return what the runtime says of itself.

        Raises
        ------
        RequestRefused
            Where it is not installed, or cannot be used on this host.
        """

    def find(self, image: str, copy: ImageCopy | None, cache: Path) -> str:
        """Return what the runtime calls an image.

        Parameters
        ----------
        copy
            Where it lies, and its digest there, where the site says so.
        cache
            Folder for what is known of images; made where it is missing.

        Raises
        ------
        RequestRefused
            Where the image is not on this host, or is not what its digest says.
        """

    def argv(
        self, launch: Launch, called: str, room: Sequence[Shown], *, network: bool = False, terminal: bool = False
    ) -> list[str]:
        """Return the command line that runs a program in an image.

        Parameters
        ----------
        called
            The image, as :meth:`find` gave it.
        room
            What it sees of the host; a later one may lie in one before.
        network
            Whether it has that of the host.
        terminal
            Whether a person sits at it.
        """

    def start(
        self, launch: Launch, called: str, room: Sequence[Shown], *, network: bool = False, shim: Shim | None = None
    ) -> ToldByCode:
        """Start a step in an image.

        Parameters
        ----------
        network
            Whether it has that of the host.
        shim
            What confines it in there.

        Raises
        ------
        NotContained
            Where the runtime says that the program cannot be executed.
        OSError, ValueError
            Where the runtime itself cannot be.
        """


def room_of(scratch: Path) -> Iterator[Shown]:
    """Yield what a step sees of the scratch of its job, under the same paths: what it must not change is read-only."""
    yield Shown(scratch, scratch, writable=True)
    for name in (INPUTS, OUTPUTS, LEFT, FILES, ORDER, INDEX):
        if (scratch / name).exists():
            yield Shown(scratch / name, scratch / name)
    bundle = scratch / BUNDLE
    if bundle.is_symlink():
        target = bundle.readlink()
        yield Shown(target, target)


def behind_shim(launch: Launch, rules: str) -> Launch:
    """Return what is started in a container so that it confines itself and becomes the step.

    Parameters
    ----------
    rules
        Where it finds its rules: a path in the container, or the number of an open file.
    """
    return replace(launch, argv=(str(SHIM), rules, *launch.argv))


def with_rules(shim: Shim, launch: Launch, room: Sequence[Shown]) -> tuple[Launch, list[Shown]]:
    """Return what is started, and what it sees, where a runtime hands on no open file: the rules lie in the scratch."""
    rules = launch.directory.parent / RULES
    rules.unlink(missing_ok=True)
    with rules.open("xb") as file:
        file.write(shim.rules.written())
    rules.chmod(0o444)
    return behind_shim(launch, str(rules)), [*room, Shown(shim.path, SHIM), Shown(rules, rules)]


def mount_of(shown: Shown, read_only: str) -> str:
    """Return how command lines write what is shown: comma-separated values.

    Parameters
    ----------
    read_only
        What is said of a mount that must not be changed.
    """
    parts = ["type=bind", f"source={shown.source}", f"target={shown.target}", *([] if shown.writable else [read_only])]
    line = StringIO()
    csv.writer(line, lineterminator="").writerow(parts)
    return line.getvalue()


def answer_of(argv: Sequence[str], *, seconds: float = 60.0) -> str:
    """Return the first line of what a program answers.

    Raises
    ------
    RequestRefused
        Where it is not installed or fails; with its last words, since warnings come before.
    """
    try:
        answer = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise RequestRefused(
            f"the program {argv[0]!r} is not installed on this host, or not on its PATH",
            remedy="install it, or name another runtime under containers.runtime of nightmill.yaml",
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RequestRefused(f"{' '.join(argv)} failed: {error}") from error
    said = ((answer.returncode and answer.stderr) or answer.stdout).strip().splitlines()
    if answer.returncode:
        raise RequestRefused(f"{' '.join(argv)} failed: {said[-1] if said else f'exit code {answer.returncode}'}")
    return said[0] if said else ""
