from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from examples.ccd.check import compare, main
from tests.examples.programs import Night, Products


@pytest.fixture
def catalog(products: Products, tmp_path: Path) -> Path:
    """Give a copy of the catalogue to spoil."""
    path = tmp_path / "catalog.fits"
    path.write_bytes(products.catalog.read_bytes())
    return path


def test_good_catalogue_passes(night: Night, products: Products, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(night.truth), str(products.catalog)]) == 0
    assert capsys.readouterr().out.endswith("\nall of them agree with the known stars: 1 frames\n")


def test_a_folder_stands_for_its_catalogues(
    night: Night, products: Products, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.fits", "b.fits"):
        (tmp_path / name).write_bytes(products.catalog.read_bytes())
    (tmp_path / "a.log").write_text("no catalogue")
    assert main([str(night.truth), str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[2].split()[:2] == ["11", "2"]
    assert out[3] == "all of them agree with the known stars: 2 frames"


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [("X", 0.5, "places off by 0.5"), ("MAG", 0.1, "magnitudes off by +0."), ("X", 3.0, "0 of ")],
)
def test_shifted_catalogue_fails(
    night: Night, catalog: Path, column: str, change: float, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with fits.open(catalog, mode="update") as hdus:
        hdus["OBJECTS"].data[column] += change
    assert main([str(night.truth), str(catalog)]) == 1
    last = capsys.readouterr().out.splitlines()[3:]
    assert any(line.startswith(f"exposure 11, detector 2: {message}") for line in last)


def test_scattered_magnitudes_and_missing_stars_fail(night: Night, catalog: Path) -> None:
    with fits.open(catalog, mode="update") as hdus:
        table = hdus["OBJECTS"].data
        table["MAG"] += np.random.default_rng(1).normal(0, 0.1, len(table))
        table["X"][::2] = -100
    (result,) = compare(catalog, Table.read(night.truth))
    scatter, found = result.scatter_mag, result.found
    assert f"magnitudes scatter by {scatter:.4f}" in result.problems()
    assert f"{found} of {result.known} bright stars found" in result.problems()
    assert 0.3 < result.completeness < 0.7


def test_invented_objects_are_counted(night: Night, catalog: Path) -> None:
    truth = Table.read(night.truth)
    with fits.open(catalog, mode="update") as hdus:
        table = hdus["OBJECTS"].data
        table["X"][:3], table["Y"][:3], table["FLAGS"][:3] = table["X"][:3] + 9, table["Y"][:3] + 9, 0
    (result,) = compare(catalog, truth)
    assert result.spurious >= 3


def test_catalogue_of_another_simulation_is_refused(night: Night, catalog: Path) -> None:
    with fits.open(catalog, mode="update") as hdus:
        hdus[0].header["EXPNUM"] = 99
    with pytest.raises(ValueError, match=r"catalog\.fits: the simulation has no exposure 99"):
        list(compare(catalog, Table.read(night.truth)))
