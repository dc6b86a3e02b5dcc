"""What a site runs images with, as its document says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from nightmill.config.document import Document, Key, dotted
from nightmill.errors import ConfigError
from nightmill.model.container import Containers, ImageCopy, is_image


def containers_of(
    said: Containers, place_of: Callable[[str], Path], document: Document, errors: list[ConfigError]
) -> Containers:
    """Return what a site says, with absolute paths; add what is wrong to the errors.

    Parameters
    ----------
    place_of
        Makes a path of the document absolute.
    """
    for image, copy in said.images.items():
        key: Key = ("containers", "images", image)
        if not is_image(image):
            remedy = "write NAME@sha256:DIGEST, or sha256:DIGEST"
            errors.append(ConfigError(f"{dotted(key)} is not a digest", where=document.where(key), remedy=remedy))
        if isinstance(copy, ImageCopy) and not is_image(copy.digest):
            what = f"{dotted((*key, 'digest'))}: {copy.digest!r} is not a digest"
            errors.append(ConfigError(what, where=document.where(key), remedy="write sha256:DIGEST"))
    for target in said.bind:
        key = ("containers", "bind", target)
        if not Path(target).is_absolute() or os.path.normpath(target) != target:
            remedy = "write the whole path in the image, as /opt/code"
            errors.append(ConfigError(f"{dotted(key)} is not a path", where=document.where(key), remedy=remedy))
    return said.model_copy(
        update={
            "images": {
                name: place_of(str(each))
                if isinstance(each, Path)
                else each.model_copy(update={"path": place_of(str(each.path))})
                for name, each in said.images.items()
            },
            "bind": {name: place_of(str(path)) for name, path in said.bind.items()},
        }
    )
