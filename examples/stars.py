"""Light of stars on a detector, which all simulated cameras share.

Pixel coordinates count from 1 at the centre of the first pixel, as FITS headers do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Image = NDArray[np.float64]


def star_light(x: Image, y: Image, light: Image, *, fwhm: float, shape: tuple[int, int]) -> Image:
    """Give the expected image of stars: round Gaussians, integrated over each pixel.

    Parameters
    ----------
    x, y
        Places in pixels, one entry a star; stars outside the detector are welcome.
    light
        Of each star, in any unit; the image has the same unit a pixel.
    fwhm
        Full width at half maximum, pixels.
    shape
        Rows and columns of the detector.

    Returns
    -------
    ndarray
        Of that shape.
    """
    rows = _profile(y, shape[0], fwhm) * light[:, None]
    return np.asarray(rows.T @ _profile(x, shape[1], fwhm))


def _profile(centres: Image, size: int, fwhm: float) -> Image:
    """Give the part of each star's light that falls into each column (or row): stars x size."""
    sigma = fwhm / np.sqrt(8 * np.log(2))
    edges = np.arange(size + 1) + 0.5
    cumulative = 0.5 * erf((edges[None, :] - centres[:, None]) / (np.sqrt(2) * sigma))
    return np.diff(cumulative, axis=1)
