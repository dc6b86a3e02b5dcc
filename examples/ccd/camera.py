"""The simulated camera "nmcam": what its four detectors are like, and what they make of light.

Lengths are pixels, light is electrons, and pixel coordinates count from 1 at the centre of the first pixel, as FITS
headers do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from examples.stars import Image

NAME: Final = "nmcam"
SHAPE: Final = (256, 320)
"""Rows and columns of one detector."""
GAP: Final = 20
"""Between neighbouring detectors."""
PIXEL_SCALE: Final = 0.4
"""Arcseconds."""
DETECTORS: Final = {1: (0, 0), 2: (1, 0), 3: (0, 1), 4: (1, 1)}
"""Number of each detector to its column and row in the mosaic."""
SATURATION: Final = 60000
"""ADU."""


@dataclass(frozen=True)
class Band:
    """A filter, as the telescope sees through it."""

    zero_point: float
    """Magnitude of a star that gives one electron a second above the atmosphere."""
    extinction: float
    """Magnitudes an airmass."""
    sky: float
    """Electrons a second and pixel."""


BANDS: Final = {"g": Band(25.0, 0.20, 6.0), "r": Band(25.2, 0.12, 10.0)}


@dataclass(frozen=True)
class Detector:
    """One detector with its flaws."""

    number: int
    gain: float
    """Electrons an ADU."""
    read_noise: float
    """Electrons."""
    bias: Image
    """ADU."""
    dark: Image
    """Electrons a second: hot pixels."""
    response: dict[str, Image]
    """Band to what part of the light each pixel counts; the mean of a detector is 1."""

    @property
    def reference_pixel(self) -> tuple[float, float]:
        """Where the optical axis meets the detector's plane, x and y."""
        (column, row), (rows, columns) = DETECTORS[self.number], SHAPE
        return (0.5 - column) * (columns + GAP) + (columns + 1) / 2, (0.5 - row) * (rows + GAP) + (rows + 1) / 2

    def read_out(self, electrons: Image, seconds: float, rng: np.random.Generator) -> NDArray[np.uint16]:
        """Turn expected electrons (before dark current) into a raw frame in ADU, with noise."""
        counted = rng.poisson(electrons + self.dark * seconds).astype(float)
        if seconds > 0:
            counted += cosmic_rays(seconds, rng)
        adu = (counted + rng.normal(0.0, self.read_noise, SHAPE)) / self.gain + self.bias
        return np.rint(np.clip(adu, 0, 65535)).astype(np.uint16)


def make_detector(number: int, seed: int) -> Detector:
    """Make a detector: the same for the same number and seed, whatever else is simulated."""
    rng = np.random.default_rng([seed, 1, number])
    slope = np.linspace(0, 12, SHAPE[0])[:, None]
    columns = rng.normal(0, 3, SHAPE[1])[None, :]
    bias = 1000 + 60 * number + slope + columns + rng.normal(0, 1, SHAPE)
    dark = np.zeros(SHAPE)
    dark.flat[rng.choice(dark.size, 40, replace=False)] = rng.uniform(30, 300, 40)
    dead = rng.choice(dark.size, 15, replace=False)
    return Detector(
        number=number,
        gain=round(float(rng.uniform(1.3, 1.8)), 3),
        read_noise=round(float(rng.uniform(5, 7)), 2),
        bias=bias,
        dark=dark,
        response=_responses(number, dead, rng),
    )


def _responses(number: int, dead: NDArray[np.int64], rng: np.random.Generator) -> dict[str, Image]:
    y, x = np.indices(SHAPE, dtype=float)
    column, row = DETECTORS[number]
    across = (x - SHAPE[1] / 2) / (SHAPE[1] + GAP) + column - 0.5
    along = (y - SHAPE[0] / 2) / (SHAPE[0] + GAP) + row - 0.5
    vignetting = 1 - 0.12 * (across**2 + along**2)
    pixels = rng.normal(1.0, 0.01, SHAPE)
    pixels.flat[dead] = 0.05
    responses = {}
    for band in BANDS:
        rings = np.ones(SHAPE)
        for centre_x, centre_y, radius in rng.uniform([0, 0, 9], [SHAPE[1], SHAPE[0], 16], (4, 3)):
            distance = np.hypot(x - centre_x, y - centre_y)
            rings -= 0.06 * np.exp(-(((distance - radius) / 3.0) ** 2))
        response = vignetting * pixels * rings
        responses[band] = response / response.mean()
    return responses


def cosmic_rays(seconds: float, rng: np.random.Generator) -> Image:
    """Give the electrons that charged particles leave in a detector: straight tracks of 2 to 14 pixels."""
    image = np.zeros(SHAPE)
    for _ in range(rng.poisson(seconds / 8)):
        length, angle = rng.uniform(2, 14), rng.uniform(0, np.pi)
        along = np.arange(0.0, length, 0.7)
        rows = np.rint(rng.uniform(0, SHAPE[0]) + along * np.sin(angle)).astype(int)
        columns = np.rint(rng.uniform(0, SHAPE[1]) + along * np.cos(angle)).astype(int)
        inside = (rows >= 0) & (rows < SHAPE[0]) & (columns >= 0) & (columns < SHAPE[1])
        np.add.at(image, (rows[inside], columns[inside]), rng.uniform(600, 4000, int(inside.sum())))
    return image


def make_detectors(seed: int, numbers: Iterable[int] = DETECTORS) -> list[Detector]:
    """Make the camera."""
    return [make_detector(number, seed) for number in numbers]
