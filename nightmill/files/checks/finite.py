"""The check of pixels that are not numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import Field

from nightmill.errors import BadFile
from nightmill.files.checks.limits import percent
from nightmill.model.base import Frozen
from nightmill.model.content import Candidate, StepInput


class Share(Frozen):
    """Options of the check."""

    max_fraction: float = Field(default=0.0, ge=0, le=1)
    """The greatest share of the pixels of an image that may not be finite."""


class Finite:
    """``finite``: the pixels of each image are numbers, but for a share that may be NaN or infinite."""

    Options: Final = Share
    formats: Final = ("fits",)
    compares: Final = False

    def __init__(self, options: Share) -> None:
        self.max_fraction = options.max_fraction

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file of which an image has too many pixels that are ``not_finite``."""
        from astropy.io import fits  # half a second, for who wants this check alone
        from numpy import isfinite

        with fits.open(file.path, memmap=True, do_not_scale_image_data=True) as hdus:  # what is scaled is not mapped
            for number, hdu in enumerate(hdus):
                if not hdu.is_image or (pixels := hdu.data) is None or not pixels.size:
                    continue
                blank = hdu.header.get("BLANK")
                parts = pixels if pixels.ndim > 1 else [pixels]
                if pixels.dtype.kind == "f":
                    finite = sum(int(isfinite(rows).sum()) for rows in parts)
                elif blank is not None:  # stands for NaN in an image of whole numbers
                    finite = sum(int((rows != blank).sum()) for rows in parts)
                else:
                    continue
                share = 1 - finite / pixels.size
                if share > self.max_fraction:
                    raise BadFile(
                        f"{file.name}: {percent(share)} of the {pixels.size:,} pixels of HDU {number} are not finite,"
                        f" at most {percent(self.max_fraction)} may be",
                        reason="not_finite",
                        remedy="look at the file, or raise max_fraction of check 'finite' in its type",
                    )
