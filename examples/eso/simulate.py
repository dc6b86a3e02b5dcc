"""Simulate one night of HAWK-I: darks of two settings, twilight flats, and jittered frames of one field.

``python -m examples.eso.simulate --output DIR`` writes ``raw/`` with frames as the VLT names and describes them,
``static/`` with the calibrations that ESO ships with its pipeline (reference stars, zero points, extinction maps), and
``truth.ecsv`` with the place and the magnitudes of every star. The same seed gives the same bytes.

The science frames and their darks are read out in a small window at the centre of each chip. Flats and their darks
have a large one: the recipe that combines flats judges them by pixels 768 to 1791 along each axis, and refuses less.
All frames are compressed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

from examples.stars import Image, star_light

CHIP_SIZE: Final = 2048
"""Rows and columns of a chip."""
FLAT_WINDOW: Final = 1792
"""Rows and columns that are read of each chip for flats, around its centre."""
WINDOW: Final = 256
"""And for science frames."""
GOOD_FROM: Final = "2007-08-01T00:00:00.000"
"""When the calibrations that come with the recipes begin to hold."""
PIXEL_SCALE: Final = 0.106
"""Arcseconds."""
CHIPS: Final = {1: (-1, -1), 2: (1, -1), 4: (-1, 1), 3: (1, 1)}
"""Number of each chip, in the order of the extensions, to its side of the optical axis along x and y."""
CHIP_CENTRE: Final = 1094.0
"""Pixels between the optical axis and the centre of each chip, along each axis."""
RADIAL_DISTORTION: Final = 400.0
"""Of the camera: an angle r seems to be r + 400 r**3 (radians), which the recipes take for granted as PV2_3."""
FIELD: Final = (53.1, -27.8)
"""Right ascension and declination, degrees."""
STAR_SPACING: Final = 37
"""Pixels between stars, about: their apertures do not touch."""
JITTER: Final = 2.0
"""Arcseconds, at most, along each axis: no star leaves the window, where half a star would mislead the astrometry."""
FWHM: Final = 5.0
"""Of the stars, pixels."""
AIRMASS: Final = 1.2


@dataclass(frozen=True)
class Band:
    """A filter."""

    zero_point: float
    """Magnitude of a star that gives one ADU a second through one airmass."""
    extinction: float
    """Magnitudes an airmass."""
    sky: float
    """ADU a second and pixel."""


BANDS: Final = {"J": Band(25.2, 0.11, 40.0), "Ks": Band(24.4, 0.08, 250.0)}


@dataclass(frozen=True)
class Setting:
    """How the detectors are read."""

    dit: float
    """Seconds of one integration."""
    ndit: int
    """Integrations that are added up."""
    window: int
    """Rows and columns around the centre of each chip."""

    @property
    def first(self) -> int:
        """Row and column of the chip, from 1, at which the window begins."""
        return (CHIP_SIZE - self.window) // 2 + 1

    @property
    def part(self) -> tuple[slice, slice]:
        """The window in the pixels that are simulated of each chip."""
        edge = (FLAT_WINDOW - self.window) // 2
        return slice(edge, edge + self.window), slice(edge, edge + self.window)


@dataclass(frozen=True)
class Chip:
    """One detector with its flaws."""

    number: int
    gain: float
    """Electrons an ADU."""
    read_noise: float
    """Electrons, of one integration."""
    offset: Image
    """ADU."""
    current: Image
    """ADU a second."""
    response: dict[str, Image]
    """Mean 1, by band."""

    def dark(self, setting: Setting) -> Image:
        """Give the mean of many darks, ADU."""
        return np.asarray(setting.ndit * (self.offset + setting.dit * self.current)[setting.part])

    def read_out(self, light: Image, setting: Setting, rng: np.random.Generator) -> Image:
        """Give the sum of NDIT integrations of the light (ADU in one of them), noise and dark included."""
        deviation = np.sqrt((light * self.gain + self.read_noise**2) * setting.ndit) / self.gain
        noise = rng.standard_normal(light.shape, dtype=np.float32)
        return np.asarray(np.rint(self.dark(setting) + setting.ndit * light + deviation * noise))


@dataclass(frozen=True)
class Exposure:
    """One raw frame: all chips at once."""

    begins_at: datetime
    kind: str
    """``ESO DPR TYPE``: DARK, ``FLAT,TWILIGHT`` or OBJECT."""
    setting: Setting
    band: str = ""
    """Empty for a dark."""
    level: float = 0.0
    """Of a flat, ADU."""
    jitter: tuple[float, float] = (0.0, 0.0)
    """Arcseconds east and north of the field."""
    number: int = 1
    """In its template, which took so many."""
    of: int = 1

    @property
    def stamp(self) -> str:
        """Its start as in ``DATE-OBS``."""
        return self.begins_at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{self.begins_at.microsecond // 1000:03d}"

    @property
    def name(self) -> str:
        """The name that the archive gives it."""
        return f"HAWKI.{self.stamp}.fits"


FLAT_SETTING: Final = Setting(2.0, 1, FLAT_WINDOW)
SCIENCE_SETTING: Final = Setting(10.0, 6, WINDOW)


def plan_night(*, seed: int, darks: int, flats: int, jitters: int) -> list[Exposure]:
    """Lay out a night: flats at dusk, jittered frames in each band, darks of every setting at dawn.

    Parameters
    ----------
    darks
        Of each setting.
    flats, jitters
        In each band.
    """
    rng = np.random.default_rng([seed, 1])
    templates: list[list[Exposure]] = []
    clock = datetime(2026, 1, 10, 23, 31, 7, 412000, tzinfo=UTC)
    for band in BANDS:
        levels = np.linspace(5400, 4600, flats)
        templates.append([Exposure(clock, "FLAT,TWILIGHT", FLAT_SETTING, band, level=float(level)) for level in levels])
    for band in BANDS:
        offsets = rng.uniform(-JITTER, JITTER, (jitters, 2)).round(2)
        templates.append(
            [Exposure(clock, "OBJECT", SCIENCE_SETTING, band, jitter=(east, north)) for east, north in offsets]
        )
    templates += [[Exposure(clock, "DARK", setting)] * darks for setting in (FLAT_SETTING, SCIENCE_SETTING)]
    done = []
    for template in templates:
        for number, exposure in enumerate(template, start=1):
            done.append(Exposure(**{**vars(exposure), "begins_at": clock, "number": number, "of": len(template)}))
            clock += timedelta(seconds=exposure.setting.dit * exposure.setting.ndit + 17.391)
        clock += timedelta(minutes=4)
    return done


def make_chips(seed: int) -> list[Chip]:
    """Make the detectors, in the order of the extensions."""
    return [_make_chip(number, np.random.default_rng([seed, 2, number])) for number in CHIPS]


def _make_chip(number: int, rng: np.random.Generator) -> Chip:
    shape = (FLAT_WINDOW, FLAT_WINDOW)
    rows, columns = np.linspace(-0.5, 0.5, FLAT_WINDOW)[:, None], np.linspace(-0.5, 0.5, FLAT_WINDOW)[None, :]
    hot = np.where(rng.random(shape) < 0.002, 100.0, 0.0)
    pixels = (1 + 0.01 * rng.standard_normal(shape)) * np.where(rng.random(shape) < 0.001, 0.1, 1.0)
    response = {}
    for band in BANDS:
        shade = pixels * (1 + 0.06 * rng.normal() * rows + 0.06 * rng.normal() * columns)
        response[band] = shade / shade.mean()
    return Chip(
        number=number,
        gain=float(rng.uniform(1.7, 2.1)),
        read_noise=float(rng.uniform(5, 7)),
        offset=20 + 15 * np.exp(-5 * (rows + 0.5)) + 2 * rng.standard_normal(shape[1])[None, :],
        current=0.15 + hot,
        response=response,
    )


def make_stars(seed: int) -> Table:
    """Make the stars in the windows: columns star, chip, ra, dec (degrees), J, Ks (magnitudes)."""
    rng = np.random.default_rng([seed, 3])
    tables = []
    for chip in CHIPS:
        axes = np.meshgrid(*[np.arange(36.0, WINDOW - 30.0, STAR_SPACING)] * 2)
        x, y = (axis.ravel() + rng.uniform(-8, 8, axis.size) for axis in axes)
        ra, dec = sky_of(chip, FIELD).all_pix2world(x, y, 1)
        magnitude = rng.uniform(14.5, 18.0, x.size)
        tables.append((np.full(x.size, chip), ra, dec, magnitude, magnitude - rng.uniform(0.2, 1.0, x.size)))
    chips, ra, dec, j, ks = (np.concatenate(column) for column in zip(*tables, strict=True))
    columns = {"star": np.arange(1, chips.size + 1), "chip": chips, "ra": ra, "dec": dec, "J": j, "Ks": ks}
    return Table(columns)


def sky_of(chip: int, pointing: tuple[float, float]) -> WCS:
    """Give the map between a chip's window (pixels from 1) and the sky, the camera's distortion included."""
    wcs = _linear_sky(chip, pointing)
    wcs.wcs.ctype = ["RA---ZPN", "DEC--ZPN"]
    wcs.wcs.set_pv([(2, 1, 1.0), (2, 3, RADIAL_DISTORTION)])
    wcs.wcs.set()
    return wcs


def _linear_sky(chip: int, pointing: tuple[float, float]) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = pointing
    wcs.wcs.crpix = [(WINDOW + 1) / 2 - side * CHIP_CENTRE for side in CHIPS[chip]]
    wcs.wcs.cd = np.diag([-PIXEL_SCALE, PIXEL_SCALE]) / 3600
    wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 2000.0
    return wcs


def pointing_of(exposure: Exposure) -> tuple[float, float]:
    """Give right ascension and declination that the telescope points at, degrees."""
    east, north = (arcsec / 3600 for arcsec in exposure.jitter)
    return FIELD[0] + east / float(np.cos(np.radians(FIELD[1]))), FIELD[1] + north


def expected_light(exposure: Exposure, chip: Chip, stars: Table) -> Image:
    """Give the ADU that light makes in one integration."""
    if exposure.kind == "DARK":
        return np.zeros((exposure.setting.window, exposure.setting.window))
    response = chip.response[exposure.band][exposure.setting.part]
    if exposure.kind == "FLAT,TWILIGHT":
        return exposure.level * response
    band, here = BANDS[exposure.band], stars[stars["chip"] == chip.number]
    x, y = sky_of(chip.number, pointing_of(exposure)).all_world2pix(here["ra"], here["dec"], 1)
    faintness = np.asarray(here[exposure.band]) + band.extinction * (AIRMASS - 1) - band.zero_point
    light = star_light(x, y, 10 ** (-0.4 * faintness), fwhm=FWHM, shape=response.shape)
    return np.asarray(exposure.setting.dit * response * (band.sky + light))


def _primary_header(exposure: Exposure) -> fits.Header:
    kinds = {"DARK": ("CALIB", "IMAGE"), "FLAT,TWILIGHT": ("CALIB", "IMAGE"), "OBJECT": ("SCIENCE", "IMAGE,JITTER")}
    category, technique = kinds[exposure.kind]
    ra, dec = pointing_of(exposure)
    header = fits.Header()
    for keyword, value, comment in (
        ("ORIGIN", "ESO-PARANAL", "simulated by nightmill"),
        ("DATE", exposure.stamp, "date this file was written"),
        ("TELESCOP", "ESO-VLT-U4", "telescope"),
        ("INSTRUME", "HAWKI", "instrument"),
        ("OBJECT", "CDFS" if exposure.kind == "OBJECT" else exposure.kind, "what was pointed at"),
        ("RA", ra, "[deg] pointing"),
        ("DEC", dec, "[deg] pointing"),
        ("EQUINOX", 2000.0, "standard FK5"),
        ("RADECSYS", "FK5", "coordinate system"),
        ("EXPTIME", exposure.setting.dit, "[s] integration time"),
        ("MJD-OBS", round(float(Time(exposure.begins_at).mjd), 8), "[d] start"),
        ("DATE-OBS", exposure.stamp, "start"),
        ("ARCFILE", exposure.name, "name in the archive"),
        ("ESO DPR CATG", category, "category"),
        ("ESO DPR TYPE", exposure.kind, "type"),
        ("ESO DPR TECH", technique, "technique"),
        ("ESO DET DIT", exposure.setting.dit, "[s] integration time"),
        ("ESO DET NDIT", exposure.setting.ndit, "number of integrations"),
        ("ESO DET NDSAMPLES", 4, "number of non-destructive samples"),
        ("ESO DET WIN NX", exposure.setting.window, "[pixel] columns that are read"),
        ("ESO DET WIN NY", exposure.setting.window, "[pixel] rows that are read"),
        ("ESO DET WIN STARTX", exposure.setting.first, "first column"),
        ("ESO DET WIN STARTY", exposure.setting.first, "first row"),
        ("ESO INS FILT1 NAME", exposure.band or "CLOSED", "filter"),
        ("ESO INS FILT2 NAME", "OPEN", "filter"),
        ("ESO OBS ID", 200000001, "observation block"),
        ("ESO OBS PROG ID", "60.A-9999(A)", "programme"),
        ("ESO OBS TARG NAME", "CDFS", "target"),
        ("ESO TEL AIRM START", AIRMASS, "airmass"),
        ("ESO TEL AIRM END", AIRMASS, "airmass"),
        ("ESO TPL START", (exposure.begins_at.replace(second=0, microsecond=0)).isoformat()[:19], "start of template"),
        ("ESO TPL EXPNO", exposure.number, "number in the template"),
        ("ESO TPL NEXP", exposure.of, "exposures of the template"),
    ):
        header[f"HIERARCH {keyword}" if keyword.startswith("ESO ") else keyword] = (value, comment)
    return header


def _chip_header(exposure: Exposure, chip: Chip) -> fits.Header:
    header = fits.Header()
    header["EXTNAME"] = (f"CHIP{chip.number}.INT1", "name of the detector")
    header["INHERIT"] = (True, "keywords of the primary header hold here")
    header["HIERARCH ESO DET CHIP NO"] = (chip.number, "number of the detector")
    header["HIERARCH ESO DET CHIP LIVE"] = (True, "detector works")
    header["HIERARCH ESO DET CHIP ID"] = (f"ESO-Hawaii2RG-chip{chip.number}", "detector")
    if exposure.kind == "OBJECT":
        header.update(_linear_sky(chip.number, pointing_of(exposure)).to_header())
        for index in (1, 2):
            header[f"CD{index}_{index}"] = header.pop(f"PC{index}_{index}")
            header[f"CD{index}_{3 - index}"] = 0.0
            header.pop(f"CDELT{index}", None)
    return header


def write_static(folder: Path, stars: Table) -> None:
    """Write what ESO ships beside the recipes: reference stars, photometric calibration and extinction maps."""
    folder.mkdir(parents=True, exist_ok=True)
    reference = fits.BinTableHDU.from_columns(
        [
            fits.Column("RA", "D", unit="deg", array=stars["ra"]),
            fits.Column("Dec", "D", unit="deg", array=stars["dec"]),
            *(fits.Column(f"{band}mag", "E", unit="mag", array=stars[band]) for band in BANDS),
            *(fits.Column(f"{band}err", "E", unit="mag", array=np.full(len(stars), 0.01)) for band in BANDS),
        ],
        name="reference",
    )
    photometry = fits.BinTableHDU.from_columns(
        [
            fits.Column("filter_name", "16A", array=list(BANDS)),
            fits.Column("atm_extcoef", "E", array=[band.extinction for band in BANDS.values()]),
            fits.Column("mag_offset", "E", array=[0.0] * len(BANDS)),
            fits.Column("coleq_columns", "32A", array=[f"{name}mag" for name in BANDS]),
            fits.Column("coleq_errcols", "32A", array=[f"{name}err" for name in BANDS]),
            fits.Column("coleq_coefs", "32A", array=["1.0"] * len(BANDS)),
            fits.Column("gal_extcoef", "E", array=[0.87, 0.35]),
            fits.Column("default_zp", "E", array=[25.0, 24.0]),
            fits.Column("default_zp_err", "E", array=[0.5, 0.5]),
        ],
        header=fits.Header({"PHOTOSYS": "Vega"}),
        name="reference",
    )
    reddening = np.full((64, 64), 0.008, dtype=np.float32)  # much coarser than the real one
    for name, category, pixels, *tables in (
        ("reference_stars", "MASTER_LOCAL_CATALOGUE_ASTROM", None, reference),
        ("photometry", "PHOTCAL_TAB", None, photometry),
        ("extinction_north", "SCHLEGEL_MAP_NORTH", reddening),
        ("extinction_south", "SCHLEGEL_MAP_SOUTH", reddening),
    ):
        cards = [("INSTRUME", "HAWKI"), ("DATE-OBS", GOOD_FROM), ("HIERARCH ESO PRO CATG", category)]
        primary = fits.PrimaryHDU(pixels, fits.Header(cards))
        fits.HDUList([primary, *tables]).writeto(folder / f"{name}.fits", overwrite=True)


def simulate(exposures: list[Exposure], output: Path, *, seed: int) -> Iterator[Path]:
    """Write static calibrations, the truth table, and the frames of a night; yields each frame as it is written."""
    chips, stars = make_chips(seed), make_stars(seed)
    write_static(output / "static", stars)
    stars.write(output / "truth.ecsv", overwrite=True)
    folder = output / "raw"
    folder.mkdir(exist_ok=True)
    for index, exposure in enumerate(exposures):
        hdus = fits.HDUList([fits.PrimaryHDU(header=_primary_header(exposure))])
        for chip in chips:
            rng = np.random.default_rng([seed, 4, index, chip.number])
            adu = chip.read_out(expected_light(exposure, chip, stars), exposure.setting, rng)
            hdus.append(fits.CompImageHDU(adu.astype(np.int32), _chip_header(exposure, chip)))
        hdus.writeto(folder / exposure.name, overwrite=True)
        yield folder / exposure.name


def main(arguments: list[str] | None = None) -> None:
    """Simulate a night from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.eso.simulate", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--seed", type=int, default=42, help="of all random numbers (default %(default)s)")
    parser.add_argument("--darks", type=int, default=2, help="of each setting (default %(default)s)")
    parser.add_argument("--flats", type=int, default=2, help="in each band (default %(default)s)")
    parser.add_argument("--jitters", type=int, default=5, help="in each band (default %(default)s)")
    options = parser.parse_args(arguments)
    night = plan_night(seed=options.seed, darks=options.darks, flats=options.flats, jitters=options.jitters)
    frames = sum(1 for _ in simulate(night, options.output, seed=options.seed))
    print(f"{frames} frames with {len(CHIPS)} chips in {options.output}")


if __name__ == "__main__":
    main()
