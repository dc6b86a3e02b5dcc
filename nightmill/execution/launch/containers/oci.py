"""Podman and docker: images that their own store has, by digest. Nothing is pulled while jobs run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from nightmill.errors import RequestRefused
from nightmill.execution.confine.shim import Shim
from nightmill.execution.launch.containers.port import Shown, answer_of, mount_of, with_rules
from nightmill.execution.launch.containers.told import ToldByCode
from nightmill.execution.launch.plain import Launch
from nightmill.model.container import ImageCopy

_TOO_FEW: Final = ("", "0", "1")
"""Ranges of IDs that podman can map for an ordinary user: there must be one beside the user."""


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
    is_parent = False

    def __init__(self, program: str, *user: str) -> None:
        self.program = self.called = program
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

    def argv(
        self, launch: Launch, called: str, room: Sequence[Shown], *, network: bool = False, terminal: bool = False
    ) -> list[str]:
        """Return the command line around that of a step."""
        program, *rest = launch.argv
        return [self.program, *self._options(launch, room, network, terminal), "--entrypoint", program, called, *rest]

    def start(
        self, launch: Launch, called: str, room: Sequence[Shown], *, network: bool = False, shim: Shim | None = None
    ) -> ToldByCode:
        """Start a step."""
        if shim is not None:
            launch, room = with_rules(shim, launch, room)
        return ToldByCode(
            self.argv(launch, called, room, network=network),
            cwd="/",  # it is not of the scratch itself, and removes the container whose processes are ended
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=launch.output,
            stderr=launch.output,
            start_new_session=True,
        )

    def _options(self, launch: Launch, room: Sequence[Shown], network: bool, terminal: bool) -> Iterator[str]:
        yield from (
            "run",
            "--rm",
            "--init",
            "--pull=never",
            f"--network={'host' if network else 'none'}",
            "--read-only",
            "--cap-drop=all",
        )
        yield from ("--security-opt=no-new-privileges", "--tmpfs=/tmp", *self._user)
        yield from ("--interactive",) if terminal else ()
        yield from ("--tty",) if terminal and sys.stdin.isatty() else ()
        for shown in room:
            yield from ("--mount", mount_of(shown, "readonly"))
        for name, value in launch.environment.items():
            yield from ("--env", f"{name}={value}")
        yield from ("--workdir", str(launch.directory))


class Rootless(Oci):
    """Podman of an ordinary user: the processes of a container, and what they make, are that user's."""

    def version(self) -> str:
        """Return the version, where podman can give a container its user: it needs further IDs of the host for that."""
        version = super().version()
        if answer_of([self.program, "info", "--format", "{{len .Host.IDMappings.UIDMap}}"]) in _TOO_FEW:
            raise RequestRefused(
                f"podman cannot run a container as user {os.getuid()}: no range of user IDs is set aside for that user",
                remedy="have one set aside in /etc/subuid and /etc/subgid, as by usermod --add-subuids"
                " 100000-165535 --add-subgids 100000-165535 USER, then call 'podman system migrate'",
            )
        return f"{version}, rootless"


def podman() -> Oci:
    """Return podman: without a daemon, and without root for everybody but root."""
    user = f"--user={os.getuid()}:{os.getgid()}"
    return Rootless("podman", "--userns=keep-id", user) if os.getuid() else Oci("podman", user)


def docker() -> Oci:
    """Return docker, by its daemon."""
    return Oci("docker", f"--user={os.getuid()}:{os.getgid()}")
