"""Inputs that come through a tiling: files by the tiles that their footprints touch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from nightmill.backbone.catalogue.registration import NewFile
from nightmill.model.dimensions import DataId
from nightmill.model.file_type import FileType
from nightmill.model.footprint import Footprint, Ring, Tiling
from nightmill.model.origin import Origin
from tests.planning.test_keys import inputs, units
from tests.planning.world import World, make_campaign

COADD: Final[Mapping[str, Any]] = {
    "name": "coadd",
    "per": ["tile", "band"],
    "inputs": {
        "images": {"type": "reduced", "through": {"tiling": "deep"}, "max": None},
        "heads": {"type": "head", "match": {"exposure": "images.exposure"}, "max": None},
    },
    "steps": [{"name": "s", "argv": ["swarp"], "inputs": ["images", "heads"], "outputs": {"image": {"type": "coadd"}}}],
}


@pytest.fixture(autouse=True)
def sky(request: pytest.FixtureRequest) -> None:
    """Let the world have ten tiles of 36 degrees along the equator, and images that know where they are."""
    world: World = request.getfixturevalue("world" if "world" in request.fixturenames else "small_world")
    world.tilings = {"deep": Tiling(rings=(Ring(south=-10, north=10, count=10),))}
    world.types = {
        "raw": FileType(name="raw"),
        "head": FileType(name="head"),
        "reduced": FileType(
            name="reduced",
            format="fits",
            footprint="wcs",
            template="{exposure}_reduced_c{campaign:04d}a{attempt:02d}.fits",
        ),
        "coadd": FileType(name="coadd", template="{tile}_{band}_coadd_c{campaign:04d}a{attempt:02d}.fits"),
    }


def add_images(world: World, *places: tuple[float, float], band: str = "g", first: int = 1, size: float = 1.0) -> None:
    """Register square images around places, and a head for each."""
    files = []
    for exposure, (ra, dec) in enumerate(places, start=first):
        corners = tuple(
            ((ra + x) % 360, dec + y) for x, y in [(-size, -size), (size, -size), (size, size), (-size, size)]
        )
        about: DataId = {"exposure": exposure, "band": band}
        for name, parts in (("reduced", (Footprint(vertices=corners),)), ("head", ())):
            files.append(
                NewFile(
                    f"{name}{exposure}",
                    name,
                    Origin.RAW,
                    1,
                    "0" * 64,
                    about,
                    store="backbone",
                    path=f"{name}{exposure}",
                    footprints=parts,
                )
            )
    world.register(files)


def test_exposures_that_touch_a_tile_make_its_unit(world: World) -> None:
    """X08, X07: an exposure in two tiles, RA 0 included; each with its own head."""
    add_images(world, (18, 0), (36, 0), (0, 5))
    add_images(world, (18, 0), band="r", first=4)
    plan = world.plan(make_campaign(COADD))
    assert units(plan) == [
        f"tile={tile},band={band}"
        for tile, band in [("r000t0000", "g"), ("r000t0000", "r"), ("r000t0001", "g"), ("r000t0009", "g")]
    ]
    assert inputs(plan.stages[0], "images") == {
        "tile=r000t0000,band=g": ["reduced1", "reduced2", "reduced3"],
        "tile=r000t0000,band=r": ["reduced4"],
        "tile=r000t0001,band=g": ["reduced2"],
        "tile=r000t0009,band=g": ["reduced3"],
    }
    assert inputs(plan.stages[0], "heads")["tile=r000t0001,band=g"] == ["head2"]
    assert plan.stages[0].jobs[0].data_id == {"tile": "r000t0000", "band": "g"}
    rule = plan.stages[0].common.rules[0]
    assert rule.startswith("raw or manual, through tiling deep (")
    assert rule.endswith("); these make the units")


@pytest.mark.parametrize(("arcsec", "tiles"), [(0, 1), (3599, 1), (3601, 2)])
def test_a_margin_takes_what_lies_so_near(small_world: World, arcsec: float, tiles: int) -> None:
    """X08: exact to the arcsecond."""
    add_images(small_world, (34, 0))
    images = {**COADD["inputs"]["images"], "through": {"tiling": "deep", "margin_arcsec": arcsec}}
    plan = small_world.plan(make_campaign({**COADD, "inputs": {**COADD["inputs"], "images": images}}))
    assert len(plan.stages[0].jobs) == tiles


def test_another_input_is_chosen_by_the_tile_of_the_unit(small_world: World) -> None:
    add_images(small_world, (18, 0), (36, 0))
    small_world.add_raw("raw", [7], [1], tile="r000t0001")
    small_world.add_raw("raw", [8], [1], tile="r000t0005")
    stage = {**COADD, "per": ["tile"], "units_from": "raw", "inputs": {"raw": {"type": "raw"}, **COADD["inputs"]}}
    stage["steps"] = [{"name": "s", "argv": ["s"], "inputs": ["images"]}]
    plan = small_world.plan(make_campaign(stage))
    assert inputs(plan.stages[0], "images") == {"tile=r000t0001": ["reduced2"]}
    assert "unit tile=r000t0005 (no footprint touches the tile of tile=r000t0005)" in plan.problems[0]


def test_a_file_from_before_its_type_had_a_footprint_is_told(small_world: World) -> None:
    add_images(small_world, (18, 0))
    small_world.add_raw("reduced", [9], [1], band="g")
    [problem] = small_world.plan(make_campaign(COADD)).problems
    assert "a file has no footprint, so that no tile can be told" in problem
    assert "file reduced_000009_01.fits" in problem


def test_images_that_are_yet_to_be_made_tell_their_tiles_then(small_world: World) -> None:
    """X05, X08."""
    small_world.add_raw("raw", [1, 2], [1])
    reduce = {
        "name": "reduce",
        "per": ["exposure"],
        "inputs": {"raw": {"type": "raw"}},
        "steps": [{"name": "s", "argv": ["s"], "inputs": ["raw"], "outputs": {"image": {"type": "reduced"}}}],
    }
    images = {**COADD["inputs"]["images"], "source": {"stage": "reduce"}}
    plan = small_world.plan(
        make_campaign(reduce, {**COADD, "inputs": {"images": images}, "steps": [{"name": "s", "argv": ["s"]}]})
    )
    assert plan.problems == ()
    assert [(stage.known_after, len(stage.jobs)) for stage in plan.stages] == [("", 2), ("reduce", 0)]


@pytest.mark.parametrize(
    ("stage", "images", "told"),
    [
        ({}, {"through": {"tiling": "dep"}}, "no tiling named 'dep' (did you mean 'deep'?)"),
        ({"per": ["band"]}, {}, "it comes through tiling 'deep', and 'per' of the stage has no tile"),
        (
            {},
            {"type": "raw"},
            "through tiling 'deep', and files of type 'raw' have no footprint; give the type a 'footprint'",
        ),
    ],
)
def test_what_no_tiling_can_tell_is_refused(
    small_world: World, stage: dict[str, Any], images: dict[str, Any], told: str
) -> None:
    add_images(small_world, (18, 0))
    images = {**COADD["inputs"]["images"], **images}
    plan = small_world.plan(make_campaign({**COADD, **stage, "inputs": {**COADD["inputs"], "images": images}}))
    assert told in "\n".join(plan.problems)
