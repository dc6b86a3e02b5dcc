"""Apptainer: images that are files, or unpacked folders."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from nightmill.errors import RequestRefused
from nightmill.execution.confine.shim import Shim
from nightmill.execution.launch.containers.port import Shown, answer_of, mount_of, with_rules
from nightmill.execution.launch.containers.rootfs import must_be
from nightmill.execution.launch.containers.told import ToldByCode
from nightmill.execution.launch.plain import Launch
from nightmill.files.checksum import fingerprint
from nightmill.model.container import ImageCopy


class Apptainer:
    """Runs programs in image files; see :class:`~nightmill.execution.launch.containers.port.Runtime`."""

    called = "apptainer"
    program = "apptainer"
    is_parent = True
    path = ""

    def version(self) -> str:
        """Return the version."""
        return answer_of([self.program, "--version"])

    def find(self, image: str, copy: ImageCopy | None, cache: Path) -> str:
        """Return the path of an image: a file whose SHA-256 is its digest, or a folder as bubblewrap takes it."""
        if copy is None or not copy.path.exists():
            where = f"{copy.path} is not there" if copy else "no file is named for it"
            raise RequestRefused(
                f"image {image} is not on this host: {where}",
                remedy="put its file there, and name it under containers.images of nightmill.yaml",
            )
        if copy.path.is_dir():
            must_be(image, copy, cache)
        elif (found := f"sha256:{fingerprint(copy.path)[1]}") != copy.digest:
            raise RequestRefused(
                f"image {image}: the file {copy.path} is not what its digest says: it has {found}",
                remedy="bring the image anew, or name the file of that image under containers.images",
            )
        return str(copy.path)

    def argv(
        self, launch: Launch, called: str, room: Sequence[Shown], *, network: bool = False, terminal: bool = False
    ) -> list[str]:
        """Return the command line around that of a step."""
        return [self.program, "exec", *self._options(launch, room, network), called, *launch.argv]

    def start(
        self, launch: Launch, called: str, room: Sequence[Shown], *, network: bool = False, shim: Shim | None = None
    ) -> ToldByCode:
        """Start a step."""
        if shim is not None:
            launch, room = with_rules(shim, launch, room)
        return ToldByCode(
            launch.group.entering(self.argv(launch, called, room, network=network)),
            cwd="/",
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=launch.output,
            stderr=launch.output,
            start_new_session=True,
        )

    def _options(self, launch: Launch, room: Sequence[Shown], network: bool) -> Iterator[str]:
        yield from ("--containall", "--no-home", "--pwd", str(launch.directory))
        yield from () if network else ("--net", "--network", "none")
        for shown in room:
            yield from ("--mount", mount_of(shown, "ro"))
        for name, value in launch.environment.items():
            yield from ("--env", f"{name}={value}")
