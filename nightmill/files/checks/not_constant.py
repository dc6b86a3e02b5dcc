"""The check of images in which nothing is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite, nan
from typing import Any, Final

from nightmill.errors import BadFile
from nightmill.model.base import Frozen
from nightmill.model.content import Candidate, StepInput


class Images(Frozen):
    """Options of the check."""

    hdus: tuple[int | str, ...] = ()
    """Numbers or EXTNAMEs of the images that are looked at; none for all of them."""


class NotConstant:
    """``not_constant``: the finite pixels of each image are not all the same, as where nobody filled it."""

    Options: Final = Images
    formats: Final = ("fits",)
    compares: Final = False

    def __init__(self, options: Images) -> None:
        self.hdus = {each.upper() if isinstance(each, str) else each for each in options.hdus}

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file of which an image is ``constant``; it is read until two of its pixels differ."""
        from astropy.io import fits  # half a second, for who wants this check alone

        with fits.open(file.path, memmap=True, do_not_scale_image_data=True) as hdus:
            for number, hdu in enumerate(hdus):
                wanted = not self.hdus or number in self.hdus or hdu.name.upper() in self.hdus
                if not wanted or not hdu.is_image or (pixels := hdu.data) is None or pixels.size < 2:
                    continue
                value = _only_value(pixels)
                if value is not None:
                    scale, zero = hdu.header.get("BSCALE", 1), hdu.header.get("BZERO", 0)
                    told = f"are {float(value) * scale + zero:g}" if isfinite(value) else "are not finite"
                    raise BadFile(
                        f"{file.name}: all {pixels.size:,} pixels of HDU {number} {told}",
                        reason="constant",
                        remedy="look at what the step wrote: nothing may have been put into the image",
                    )


def _only_value(pixels: Any) -> Any:
    """Return the value that all finite pixels of an image have, NaN where there is none; None where two differ."""
    from numpy import isfinite

    only: Any = None
    for part in _parts(pixels):
        finite = part[isfinite(part)] if part.dtype.kind == "f" else part
        if not finite.size:
            continue
        only = finite.flat[0] if only is None else only
        if (finite != only).any():
            return None
    return nan if only is None else only


def _parts(pixels: Any) -> Iterator[Any]:
    yield from pixels if pixels.ndim > 1 else [pixels]
