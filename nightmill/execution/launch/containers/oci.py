"""Podman and docker: images that their own store has, by digest. Nothing is pulled while jobs run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from nightmill.errors import RequestRefused
from nightmill.execution.launch.containers.port import Shown, answer_of, mount_of
from nightmill.execution.launch.containers.told import ToldByCode
from nightmill.execution.launch.plain import Launch, Process
from nightmill.model.container import ImageCopy


class Oci:
    """Runs programs by a command line that podman and docker share; see the port.

    The processes of a container are not those of the command that asks for it, and outlive it: they are found by the
    mark of their scratch, as all that a step leaves is. What they cost is not seen.

    Parameters
    ----------
    program
        ``podman`` or ``docker``.
    user
        How it is told whose the processes are.
    """

    path = ""

    def __init__(self, program: str, *user: str) -> None:
        self.program = program
        self._user = user

    def version(self) -> str:
        """Return the version."""
        return answer_of([self.program, "--version"])

    def find(self, image: str, _copy: ImageCopy | None, _cache: Path) -> str:
        """Return the name of an image that the store of this user has."""
        try:
            answer_of([self.program, "image", "inspect", "--format", "{{.Id}}", image])
        except RequestRefused as error:
            raise RequestRefused(
                f"image {image} is not on this host: {error.message}",
                remedy=error.remedy or f"{self.program} pull {image}",
            ) from error
        return image

    def argv(self, launch: Launch, called: str, room: Sequence[Shown], *, terminal: bool = False) -> list[str]:
        """Return the command line around that of a step."""
        program, *rest = launch.argv
        return [self.program, *self._options(launch, room, terminal), "--entrypoint", program, called, *rest]

    def start(self, launch: Launch, called: str, room: Sequence[Shown]) -> Process:
        """Start a step."""
        return ToldByCode(
            self.argv(launch, called, room),
            cwd="/",  # it is not of the scratch itself, and removes the container whose processes are ended
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=launch.output,
            stderr=launch.output,
            start_new_session=True,
        )

    def _options(self, launch: Launch, room: Sequence[Shown], terminal: bool) -> Iterator[str]:
        yield from ("run", "--rm", "--init", "--pull=never", "--network=none", "--read-only", "--cap-drop=all")
        yield from ("--security-opt=no-new-privileges", "--tmpfs=/tmp", *self._user)
        yield from ("--interactive", "--tty") if terminal else ()
        for shown in room:
            yield from ("--mount", mount_of(shown, "readonly"))
        for name, value in launch.environment.items():
            yield from ("--env", f"{name}={value}")
        yield from ("--workdir", str(launch.directory))


def podman() -> Oci:
    """Return podman: without a daemon; of an ordinary user, the files that a step makes are that user's."""
    return Oci("podman", *(("--userns=keep-id",) if os.getuid() else ()), f"--user={os.getuid()}:{os.getgid()}")


def docker() -> Oci:
    """Return docker, by its daemon."""
    return Oci("docker", f"--user={os.getuid()}:{os.getgid()}")
