"""Containers: how a step names the image that it runs in, and what a host runs images with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from nightmill.model.base import Frozen

HERE: Final = "none"
"""Stands for no image where a stage or pipeline names one, and for no runtime: the command is run as it is."""
_PLACED: Final = ("bubblewrap", "apptainer")
"""Runtimes that have no store of images of their own."""
_IMAGE: Final = re.compile(r"(?:[a-z0-9][A-Za-z0-9._/:-]*@)?sha256:[0-9a-f]{64}")


def is_image(text: str) -> bool:
    """Say whether a text names an image by its digest: ``NAME@sha256:...``, or the digest alone."""
    return _IMAGE.fullmatch(text) is not None


def digest_of(image: str) -> str:
    """Return the digest of an image, as ``sha256:...``."""
    return image.rpartition("@")[2]


class ImageCopy(Frozen):
    """An image as it lies on a host."""

    path: Path
    """The unpacked folder, or the file."""
    digest: str
    """Of what lies there, where it is not that by which pipelines name the image: of a registry, say."""


class Containers(Frozen):
    """What the hosts of a site run images with."""

    runtime: Literal["bubblewrap", "podman", "docker", "apptainer", "none"] | None = None
    """The runtime; ``none`` runs the commands as they are, for debugging. Without one, a step with an image fails."""
    images: Mapping[str, Path | ImageCopy] = Field(default_factory=dict)
    """Where images lie on the host, by ``NAME@sha256:...`` or by digest alone: unpacked folders for bubblewrap, files
    for apptainer; podman and docker know their own. Where that has another digest, as ``{path: ..., digest: ...}``."""
    bind: Mapping[str, Path] = Field(default_factory=dict)
    """Folders and files of the host that steps see, read-only, by their path in the image; the record tells of them."""

    @property
    def is_used(self) -> bool:
        """Whether steps with an image run in it."""
        return self.runtime not in (None, HERE)

    def lacking(self, image: str) -> str:
        """Return what is not said that an image needs, as a remedy for messages; empty where all is said."""
        if self.runtime is None:
            return "the site names no runtime for images; name one under containers.runtime of nightmill.yaml"
        if self.runtime in _PLACED and self.copy_of(image) is None:
            return "the site does not say where it lies; name its place under containers.images of nightmill.yaml"
        return ""

    def copy_of(self, image: str) -> ImageCopy | None:
        """Return where an image lies and what digest it has there, where that is said."""
        said = self.images.get(image) or self.images.get(digest_of(image))
        return ImageCopy(path=said, digest=digest_of(image)) if isinstance(said, Path) else said
