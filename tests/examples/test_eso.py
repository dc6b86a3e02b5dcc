"""HAWK-I: the simulated night, and ESO's recipes by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from sqlalchemy import select

from examples.eso.by_hand import CUT, Night, reduce
from examples.eso.simulate import (
    AIRMASS,
    BANDS,
    CHIPS,
    FLAT_SETTING,
    FLAT_WINDOW,
    SCIENCE_SETTING,
    WINDOW,
    Setting,
    main,
    make_chips,
    plan_night,
    simulate,
)
from nightmill.backbone.schema import FileRow
from nightmill.config.campaign import load_campaign
from nightmill.model.origin import Origin
from nightmill.model.relations import Relation
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.init import make_site
from nightmill.operations.preview import preview
from nightmill.operations.site import Site
from provenance.lineage import lineage_of
from tests.examples.campaigns import run_campaign, take_in
from tests.examples.programs import EXAMPLES, needs
from tests.examples.witnesses import must_agree

ESO = EXAMPLES / "eso"
SEED = 7
FOLDERS = {FLAT_SETTING: "dark_2.0s_x1", SCIENCE_SETTING: "dark_10.0s_x6"}


@pytest.fixture(scope="session")
def eso_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eso_night")
    planned = plan_night(seed=SEED, darks=2, flats=2, jitters=4)
    assert sum(1 for _ in simulate(planned, folder, seed=SEED)) == 16
    return folder


@pytest.fixture(scope="session")
def reduced(eso_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs("esorex")
    listed = subprocess.run(["esorex", "--recipes"], capture_output=True, text=True, check=False, timeout=60)
    if "hawki_science_process" not in listed.stdout + listed.stderr:
        pytest.skip("not installed: recipes of HAWK-I (.ci/packages.txt lists the Debian packages)")
    folder = tmp_path_factory.mktemp("eso") / "by_hand"
    reduce(Night(eso_night), folder)
    return folder


def test_frames_have_the_names_and_keywords_of_the_archive(eso_night: Path) -> None:
    paths = sorted((eso_night / "raw").glob("*"))
    assert all(re.fullmatch(r"HAWKI\.2026-01-1[01]T\d\d:\d\d:\d\d\.\d{3}\.fits", path.name) for path in paths)
    kinds = []
    for path in paths:
        with fits.open(path) as hdus:
            header = hdus[0].header
            assert header["ARCFILE"] == path.name == f"HAWKI.{header['DATE-OBS']}.fits"
            assert [hdu.name for hdu in hdus[1:]] == [f"CHIP{number}.INT1" for number in (1, 2, 4, 3)]
            window = header["ESO DET WIN NX"]
            assert {hdu.shape for hdu in hdus[1:]} == {(window, window)}
        kinds.append((header["ESO DPR TYPE"], header["ESO DET DIT"], header["ESO DET NDIT"], window))
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("FLAT,TWILIGHT", 2.0, 1, FLAT_WINDOW): 4,
        ("OBJECT", 10.0, 6, WINDOW): 8,
        ("DARK", 2.0, 1, FLAT_WINDOW): 2,
        ("DARK", 10.0, 6, WINDOW): 2,
    }


def test_command_line_says_what_it_wrote_and_a_seed_gives_its_bytes(
    eso_night: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--output", str(tmp_path), "--seed", str(SEED), "--darks", "0", "--flats", "0", "--jitters", "1"])
    assert capsys.readouterr().out == f"2 frames with 4 chips in {tmp_path}\n"
    for name in ("reference_stars", "photometry", "extinction_north", "extinction_south"):
        assert (tmp_path / "static" / f"{name}.fits").read_bytes() == (
            eso_night / "static" / f"{name}.fits"
        ).read_bytes()


@pytest.mark.parametrize("setting", FOLDERS, ids=FOLDERS.get)
def test_master_darks_are_the_darks_of_their_setting(setting: Setting, reduced: Path) -> None:
    for index, chip in enumerate(make_chips(SEED), start=1):
        master = fits.getdata(reduced / FOLDERS[setting] / "darkcomb.fits", index)
        off = master - chip.dark(setting)
        assert abs(np.median(off)) < 0.3
        noise = chip.read_noise / chip.gain * np.sqrt(setting.ndit / 2)
        assert 1.48 * np.median(np.abs(off)) == pytest.approx(noise, rel=0.05)


def test_gain_and_read_noise_are_those_of_the_chips(reduced: Path) -> None:
    rows = {row["EXTNAME"]: row for row in fits.getdata(reduced / "noise" / "readgain.fits", 1)}
    for chip in make_chips(SEED):
        row = rows[f"CHIP{chip.number}.INT1"]
        assert row["GAIN"] == pytest.approx(chip.gain, rel=0.02)
        assert row["READNOISE"] == pytest.approx(chip.read_noise / chip.gain, abs=0.6), "a median of whole ADU"


@pytest.mark.parametrize("band", BANDS)
def test_master_flats_are_the_response_of_their_band(band: str, reduced: Path) -> None:
    masters = sorted((reduced / f"flat_{band}").glob("*.fits"))
    assert {fits.getval(path, "ESO PRO CATG") for path in masters} == {
        "MASTER_TWILIGHT_FLAT",
        "MASTER_CONF",
        "MASTER_BPM",
    }
    for index, chip in enumerate(make_chips(SEED), start=1):
        flat = fits.getdata(reduced / f"flat_{band}" / "twilightcomb.fits", index)
        ratio = flat / chip.response[band]
        assert np.median(ratio) == pytest.approx(1, abs=0.005)
        assert 1.48 * np.median(np.abs(ratio - np.median(ratio))) < 0.01


@pytest.mark.parametrize("band", BANDS)
def test_stars_of_the_stack_are_where_and_as_bright_as_they_were_made(
    band: str, reduced: Path, eso_night: Path
) -> None:
    truth = Table.read(eso_night / "truth.ecsv")
    sky = SkyCoord(truth["ra"], truth["dec"], unit="deg")
    folder = reduced / f"science_{band}"
    seconds = fits.getval(folder / "stack_1.fits", "EXPTIME") / 4  # the recipe adds those of its frames up
    for index in range(1, len(CHIPS) + 1):
        header = fits.getheader(folder / "stack_cat_1.fits", index)
        found = fits.getdata(folder / "stack_cat_1.fits", index)
        unit = "rad" if found["RA"].max() < 7 else "deg"
        matched, distance, _ = SkyCoord(found["RA"], found["DEC"], unit=unit).match_to_catalog_sky(sky)
        well = distance.arcsec < 0.5
        assert well.sum() > 25
        assert np.sqrt(np.mean(distance.arcsec[well] ** 2)) < 0.1
        flux = found["Aper_flux_3"] / seconds
        magnitude = header["ESO QC MAGZPT"] - 2.5 * np.log10(flux) - header["APCOR3"]
        off = (magnitude - BANDS[band].extinction * (AIRMASS - 1) - truth[band][matched])[well]
        assert abs(np.median(off)) < 0.02
        assert np.percentile(np.abs(off), 90) < 0.05


@pytest.fixture(scope="session")
def site(eso_night: Path, reduced: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert reduced.is_dir()  # the recipes are there
    with make_site(tmp_path_factory.mktemp("eso_site") / "site", file_types=ESO / "file_types.yaml") as site:
        take_in(site, sorted((eso_night / "raw").glob("*.fits")), "raw")
        static = ingest(
            site,
            [eso_night / "static"],
            type="static",
            origin=Origin.MANUAL,
            who="tester",
            provenance="comes with the recipes",
        )
        assert (len(static.registered), static.refused) == (4, [])
        yield site


@pytest.fixture(scope="session")
def products(site: Site) -> dict[str, Path]:
    """Give what the campaign made, by the names of its files."""
    run_campaign(site, ESO / "night.yaml")
    folder = Path(site.config.directory, "stores", "backbone", "hawki-n1")
    return {path.name: path for path in folder.glob("*/*.fits")}


BY_HAND = {
    "dark_2.0s_x1": "dark_2.0s_x1/darkcomb.fits",
    "dark_10.0s_x6": "dark_10.0s_x6/darkcomb.fits",
    "gains": "noise/readgain.fits",
    **{f"{band}_flat": f"flat_{band}/twilightcomb.fits" for band in BANDS},
    **{f"{band}_flat_conf": f"flat_{band}/twilightconf.fits" for band in BANDS},
    **{f"{band}_stack": f"science_{band}/stack_1.fits" for band in BANDS},
    **{f"{band}_science_conf": f"science_{band}/stack_conf_1.fits" for band in BANDS},
    **{f"{band}_stars": f"science_{band}/stack_cat_1.fits" for band in BANDS},
}


def called(product: str) -> str:
    return f"HAWKI_20260110_{product}_c0001a01.fits"


@pytest.mark.req("X01", "X06")
def test_campaign_makes_what_a_person_makes_and_nothing_else(products: dict[str, Path]) -> None:
    assert sorted(products) == sorted(called(product) for product in BY_HAND)


@pytest.mark.parametrize("product", BY_HAND)
def test_pixels_and_rows_of_the_campaign_are_those_by_hand_to_the_bit(
    product: str, products: dict[str, Path], reduced: Path
) -> None:
    with fits.open(products[called(product)]) as ours, fits.open(reduced / BY_HAND[product]) as theirs:
        assert [hdu.name for hdu in ours] == [hdu.name for hdu in theirs]
        for one, other in zip(ours, theirs, strict=True):
            if one.data is None:
                assert other.data is None
            else:
                compared = fits.ImageDataDiff if one.is_image else fits.TableDataDiff
                assert compared(one.data, other.data).identical, one.name


def frames(night: Path, kind: str, **keys: object) -> set[str]:
    return {path.name for path in Night(night).frames(kind, **keys)}


@pytest.mark.req("B37")
def test_each_job_used_the_files_of_its_recipe_and_no_other(
    site: Site, products: dict[str, Path], eso_night: Path
) -> None:
    darks = {"x1": frames(eso_night, "DARK", ndit=1), "x6": frames(eso_night, "DARK", ndit=6)}
    flats = {band: frames(eso_night, "FLAT,TWILIGHT", band=band) for band in BANDS}
    static = {
        role: {f"{name}_m001.fits"}
        for role, name in {
            "stars": "reference_stars",
            "photometry": "photometry",
            "north": "extinction_north",
            "south": "extinction_south",
        }.items()
    }
    expected: dict[str, dict[str, set[str]]] = {
        "dark_2.0s_x1": {"frames": darks["x1"]},
        "dark_10.0s_x6": {"frames": darks["x6"]},
        "gains": {"flats": flats["J"], "darks": darks["x1"]},
    }
    for band in BANDS:
        expected[f"{band}_flat"] = {"frames": flats[band], "dark": {called("dark_2.0s_x1")}}
        expected[f"{band}_flat_conf"] = expected[f"{band}_flat"]
        expected[f"{band}_stack"] = expected[f"{band}_science_conf"] = expected[f"{band}_stars"] = {
            "frames": frames(eso_night, "OBJECT", band=band),
            "dark": {called("dark_10.0s_x6")},
            "flat": {called(f"{band}_flat")},
            "confidence": {called(f"{band}_flat_conf")},
            "gains": {called("gains")},
            **static,
        }
    with site.database.reading() as session:
        for product in BY_HAND:
            found = lineage_of(session, called(product), "up", depth=1)
            used: dict[str, set[str]] = {}
            for edge in found.edges[Relation.USED]:
                used.setdefault(edge.role, set()).add(found.files[edge.file_id].name)
            assert used == expected[product], product


SCRATCH = {"flat.fits": "flat", "confidence.fits": "confidence"}
"""What a step cut for the recipe of science, and the role of what it was cut from."""


@pytest.mark.req("B38")
@pytest.mark.parametrize("product", BY_HAND)
def test_lineage_says_what_the_recipe_says_in_the_header(product: str, site: Site, products: dict[str, Path]) -> None:
    header = fits.getheader(products[called(product)])
    read = {value for key, value in header.items() if re.fullmatch(r"ESO PRO REC1 (RAW|CAL)\d+ NAME", key)}
    with site.database.reading() as session:
        found = lineage_of(session, called(product), "up", depth=1)
    behind = {edge.role: found.files[edge.file_id].name for edge in found.edges[Relation.USED]}
    names = {found.files[edge.file_id].name for edge in found.edges[Relation.USED]}
    assert names == {behind[SCRATCH[name]] if name in SCRATCH else name for name in read}


def test_zero_points_and_recipes_are_asked_of_the_catalogue(site: Site, products: dict[str, Path]) -> None:
    assert products
    with site.database.reading() as session:
        stacks = session.scalars(select(FileRow).where(FileRow.type == "stack")).all()
    assert {stack.band: stack.attributes["frames"] for stack in stacks} == dict.fromkeys(BANDS, 4)
    for stack in stacks:
        assert stack.attributes["zero_point"] == pytest.approx(BANDS[str(stack.band)].zero_point, abs=0.3)
        assert stack.attributes["made_with"].startswith("hawki/")


@pytest.mark.req("X03")
def test_what_lacks_its_dark_is_held_and_the_rest_is_planned(site: Site) -> None:
    campaign = load_campaign(ESO / "night.yaml", ["campaign=early", "where=not (kind == 'DARK' and ndit == 1)"])
    plan = preview(site, campaign)
    assert {stage.stage.name: len(stage.jobs) for stage in plan.stages} == {
        "dark": 1,
        "gain": 0,
        "flat": 0,
        "science": 0,
    }
    left_out = {(stage.stage.name, unit.unit, unit.missing) for stage in plan.stages for unit in stage.left_out}
    night = "instrument=HAWKI,night=20260110"
    assert left_out == {
        ("gain", night, "hold"),
        *((stage, f"{night},band={band}", "hold") for stage in ("flat", "science") for band in BANDS),
    }
    assert plan.problems == ()


def test_frame_whose_name_is_not_its_time_is_refused(site: Site, eso_night: Path, tmp_path: Path) -> None:
    (frame, *_) = sorted((eso_night / "raw").glob("*.fits"))
    other = tmp_path / "HAWKI.2026-01-10T23:31:08.412.fits"
    other.symlink_to(frame)
    result = ingest(site, [other], type="raw", origin=Origin.RAW, who="tester", follow_links=True)
    assert [refused.reason for refused in result.refused] == ["contradiction"]


def cut(folder: Path, *paths: Path | str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CUT, *paths], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def frame(path: Path, **window: int) -> Path:
    header = fits.Header({f"HIERARCH ESO DET WIN {key}": value for key, value in window.items()})
    shape = (window.get("NY", 1), window.get("NX", 1))
    pixels = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)
    fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU(pixels, name="CHIP1")]).writeto(path)
    return path


def test_cut_takes_the_rows_and_columns_of_the_other_window(tmp_path: Path) -> None:
    large = frame(tmp_path / "large.fits", STARTX=11, STARTY=21, NX=8, NY=6)
    small = frame(tmp_path / "small.fits", STARTX=13, STARTY=22, NX=3, NY=2)
    done = cut(tmp_path, large, "cut.fits", small, small)
    assert (done.returncode, done.stderr) == (0, "")
    with fits.open(tmp_path / "cut.fits", checksum=True) as hdus:
        assert hdus["CHIP1"].data.tolist() == [[10, 11, 12], [18, 19, 20]]
        assert [hdus[0].header[f"ESO DET WIN {key}"] for key in ("STARTX", "STARTY", "NX", "NY")] == [13, 22, 3, 2]


def test_cut_refuses_windows_that_are_not_inside_not_told_or_not_one(tmp_path: Path) -> None:
    large = frame(tmp_path / "large.fits", STARTX=11, STARTY=21, NX=8, NY=6)
    off = frame(tmp_path / "off.fits", STARTX=16, STARTY=22, NX=4, NY=2)
    silent = frame(tmp_path / "silent.fits", STARTX=16)
    small = frame(tmp_path / "small.fits", STARTX=13, STARTY=22, NX=3, NY=2)
    for like, message in (
        ([off], "cut: large.fits: the window of off.fits lies outside of it\n"),
        ([silent], "cut: silent.fits: no ESO DET WIN STARTY in its header\n"),
        ([small, off], "cut: off.fits: its window is not that of small.fits\n"),
    ):
        done = cut(tmp_path, large, "cut.fits", *like)
        assert (done.returncode, done.stderr) == (1, message)
        assert not (tmp_path / "cut.fits").exists()


@pytest.mark.req("B40")
def test_witnesses_of_a_recipe_agree_with_a_tracer(eso_night: Path, tmp_path: Path) -> None:
    needs("esorex")
    must_agree("eso/hawki.yaml", "dark", {"frames": sorted((eso_night / "raw").glob("*.fits"))[:2]}, tmp_path)
