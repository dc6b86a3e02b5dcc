"""A small simulated night, and what the step programs make of it, once a session."""

from __future__ import annotations

import pytest

from examples.ccd.simulate import plan_night, simulate
from tests.examples.programs import MAGNITUDES, Night, Products, run_step


@pytest.fixture(scope="session")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """Simulate a night of 12 exposures."""
    folder = tmp_path_factory.mktemp("night")
    exposures = plan_night(20260110, seed=7, first=1, biases=4, flats=3, exposures=2, seconds=60.0)
    assert sum(1 for _ in simulate(exposures, folder, seed=7)) == 4 * len(exposures) + 1
    return Night(folder)


@pytest.fixture(scope="session")
def products(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Products:
    """Run every step of a detector's calibrations and science."""
    folder = tmp_path_factory.mktemp("products")
    made = Products(
        bias=folder / "bias.fits",
        flat=folder / "flat.fits",
        reduced=folder / "reduced.fits",
        cleaned=folder / "cleaned.fits",
        catalog=folder / "catalog.fits",
        quality=folder / "quality.json",
    )
    (raw,) = night.frames("science", range(11, 12), 2)
    masters = ("--bias", made.bias, "--flat", made.flat)
    for program, *arguments in (
        ("ccd/combine", "--output", made.bias, *night.frames("bias", range(1, 5), 2)),
        ("ccd/combine", "--bias", made.bias, "--output", made.flat, *night.frames("flat", range(5, 8), 2)),
        ("ccd/reduce", raw, *masters, "--reduced", made.reduced, "--cleaned", made.cleaned),
        ("ccd/photometry", made.cleaned, *MAGNITUDES, "--catalog", made.catalog, "--quality", made.quality),
    ):
        done = run_step(str(program), *arguments, directory=folder)
        assert (done.returncode, done.stderr) == (0, "")
    return made
