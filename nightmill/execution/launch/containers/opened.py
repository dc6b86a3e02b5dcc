"""The containers of one process: which runtime there is, which images were found, and a step in one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import ClassVar, Final

from nightmill.errors import RequestRefused
from nightmill.execution.confine.inside import held_inside
from nightmill.execution.confine.shim import Shim, ShimRules, made_in
from nightmill.execution.faults import refused
from nightmill.execution.launch.containers.apptainer import Apptainer
from nightmill.execution.launch.containers.bubblewrap import Bubblewrap
from nightmill.execution.launch.containers.oci import docker, podman
from nightmill.execution.launch.containers.port import Runtime, Shown, room_of
from nightmill.execution.launch.containers.said import Said
from nightmill.execution.launch.plain import Launch, Process
from nightmill.model.container import HERE, Containers, digest_of
from nightmill.model.observed import Confined, Level
from nightmill.model.order import OrderStep

RUNTIMES: Final[Mapping[str, Callable[[], Runtime]]] = {
    "bubblewrap": Bubblewrap,
    "podman": podman,
    "docker": docker,
    "apptainer": Apptainer,
}

_OPEN: Final = "a step in an image can read all inputs of its job, and make any system call"


@dataclass(frozen=True)
class Container:
    """What a step with an image is started with: both the runtime and the image are there."""

    image: str
    runtime: Runtime
    called: str
    """The image, as the runtime calls it."""
    bound: tuple[Shown, ...]
    packages: Mapping[str, str] = field(compare=False)
    """What of it goes on record, as a part of the software of a step."""
    shim: Path | None = None
    """What confines steps in it."""
    fault: str = ""
    """Why there is none."""

    python: ClassVar[str] = "python3"
    """What ``{python}`` stands for: that of the image."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What a step has that says nothing else."""
        return {"PATH": self.runtime.path} if self.runtime.path else {}

    @property
    def places(self) -> list[Path]:
        """What of this host it is made of, as far as that has a path: the image, and what is shown in it."""
        return [*([Path(self.called)] if self.called.startswith("/") else ()), *(each.source for each in self.bound)]

    def start(self, launch: Launch, *, scratch: Path, network: bool, rules: ShimRules | None) -> Process:
        """Start a step, as the port says.

        Parameters
        ----------
        rules
            By what it confines itself in there; None where the site confines no step.
        """
        shim = Shim(self.shim, rules) if self.shim is not None and rules is not None else None
        said = Said(launch.output)
        try:
            piped, room = replace(launch, output=said.writing), self._room(scratch)
            process = self.runtime.start(piped, self.called, room, network=network, shim=shim)
        except BaseException:
            said.begun()
            said.end()  # why there is no step
            raise
        said.begun()
        process.said = said
        process.confined = self.confined(is_wanted=rules is not None)
        return process

    def confined(self, *, is_wanted: bool) -> Confined:
        """Return how its steps are confined, where the site wants them to be or not."""
        by, lacking = held_inside() if is_wanted and self.shim is not None else ((), (_OPEN,))
        if is_wanted and self.shim is None:
            lacking = (*lacking, f"what confines a step in an image cannot be made: {self.fault}")
        return Confined(level=Level.STANDARD, by=(self.runtime.called, *by), lacking=lacking)

    def shell(self, launch: Launch, *, scratch: Path, network: bool) -> list[str]:
        """Return the command line for somebody at a terminal in the place of a step."""
        return self.runtime.argv(launch, self.called, self._room(scratch), network=network, terminal=True)

    def _room(self, scratch: Path) -> list[Shown]:
        """Return what a step sees of the host: what lies in another comes after it."""
        return sorted([*self.bound, *room_of(scratch)], key=lambda shown: len(shown.target.parts))

    def asking(self, launch: Launch) -> list[str]:
        """Return the command line of a program that sees no scratch but its own folder."""
        own = Shown(launch.directory, launch.directory, writable=True)
        return self.runtime.argv(launch, self.called, [*self.bound, own])


class OpenedContainers:
    """What this process runs images with; safe for use by several threads.

    Parameters
    ----------
    settings
        What the site says.
    cache
        Folder for what is known of images.
    """

    def __init__(self, settings: Containers, cache: Path) -> None:
        self._settings = settings
        self._cache = cache / "images"
        self._shims = cache / "shims"
        self._found: dict[str, Container] = {}
        self._looking = Lock()

    def of(self, step: OrderStep) -> Container | None:
        """Return the container of a step; None where it runs as it is, having no image or by what the site says.

        Raises
        ------
        JobFailed
            Where its image or the runtime is not there.
        """
        if not step.image or self._settings.runtime == HERE:
            return None
        try:
            return self.find(step.image)
        except RequestRefused as error:
            raise refused(step.name, error) from error

    def find(self, image: str) -> Container:
        """Return what runs an image; each is looked for once.

        Raises
        ------
        RequestRefused
            Where it or the runtime is not there.
        """
        with self._looking:
            if image not in self._found:
                self._found[image] = self._find(image)
            return self._found[image]

    def version(self) -> str:
        """Return what the runtime says of itself.

        Raises
        ------
        RequestRefused
            Where none is named, it is not installed, or it cannot be used on this host.
        """
        return self._runtime().version()

    def told(self, step: OrderStep) -> Mapping[str, str]:
        """Return what goes on record where a step with an image runs as it is."""
        return {"image": f"{step.image} (not used)", "container runtime": HERE} if step.image else {}

    def _runtime(self) -> Runtime:
        if (name := self._settings.runtime) is None:
            raise RequestRefused(
                "this host has no runtime for images: its site names none",
                remedy="name one under containers.runtime of nightmill.yaml, or none to run commands as they are",
            )
        return RUNTIMES[name]()

    def _find(self, image: str) -> Container:
        runtime, version = self._runtime(), self.version()
        copy = self._settings.copy_of(image)
        called = runtime.find(image, copy, self._cache)
        bound = tuple(self._bound())
        packages = {"image": image, "container runtime": version}
        if copy is not None and copy.digest != digest_of(image):
            packages["image as it lies here"] = copy.digest
        packages |= {f"in the image at {each.target}": str(each.source) for each in bound}
        return Container(image, runtime, called, bound, packages, *made_in(self._shims))

    def _bound(self) -> Iterator[Shown]:
        for target, source in self._settings.bind.items():
            if not source.exists():
                raise RequestRefused(
                    f"{source} is not there, and is to be seen in the image at {target}",
                    remedy="see what containers.bind says",
                )
            yield Shown(source, Path(target))
