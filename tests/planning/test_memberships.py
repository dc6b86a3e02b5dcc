"""Inputs that come through the rows of a table, and units that rows make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.attachments import attach, load
from nightmill.backbone.schema import FileRow
from nightmill.model.attachment import Attachment
from nightmill.model.dimensions import KeyType
from nightmill.model.file_type import FileType, Membership, MetadataKey
from tests.planning.test_keys import inputs, units
from tests.planning.world import NIGHT, World, make_campaign

PAIRS: Final[dict[str, KeyType]] = {"pair": "int", "plus": "int", "minus": "int"}
END: Final = "_c{campaign:04d}a{attempt:02d}.fits"
PROJECT: Final[Mapping[str, Any]] = {
    "name": "project",
    "per": ["exposure"],
    "inputs": {"raw": {"type": "raw"}},
    "steps": [{"name": "s", "argv": ["mProject"], "inputs": ["raw"], "outputs": {"image": {"type": "projected"}}}],
}
OVERLAPS: Final[Mapping[str, Any]] = {
    "name": "overlaps",
    "per": ["instrument"],
    "inputs": {"images": {"type": "projected", "source": {"stage": "project"}, "match": [], "max": None}},
    "units_from": "images",
    "steps": [{"name": "s", "argv": ["mOverlaps"], "inputs": ["images"], "outputs": {"pairs": {"type": "pairs"}}}],
}
DIFFERENCE: Final[Mapping[str, Any]] = {
    "name": "difference",
    "per": ["pair"],
    "units_from": "pairs",
    "inputs": {
        "pairs": {"type": "pairs"},
        "images": {
            "type": "projected",
            "through": "pairs",
            "match": {"exposure": ["plus", "minus"]},
            "min": 2,
            "max": 2,
        },
    },
    "steps": [{"name": "s", "argv": ["mDiff"], "inputs": ["images"], "outputs": {"image": {"type": "difference"}}}],
}
COADD: Final[Mapping[str, Any]] = {
    "name": "coadd",
    "per": ["tile", "band"],
    "units_from": "images",
    "inputs": {
        "tiles": {"type": "tiles"},
        "images": {"type": "projected", "through": "tiles", "max": None},
        "mask": {"type": "mask", "through": "tiles", "match": {"name": "mask"}, "min": 0},
    },
    "steps": [{"name": "s", "argv": ["swarp"], "inputs": ["images"], "outputs": {"image": {"type": "coadd"}}}],
}


@pytest.fixture(autouse=True)
def types(request: pytest.FixtureRequest) -> None:
    """Let the world have types with rows."""
    world: World = request.getfixturevalue("world" if "world" in request.fixturenames else "small_world")
    world.types = {
        "raw": FileType(name="raw"),
        "mask": FileType(name="mask"),
        "projected": FileType(name="projected", template=f"{{exposure}}_projected{END}"),
        "pairs": FileType(name="pairs", format="fits", membership=Membership(columns=PAIRS), template=f"pairs{END}"),
        "tiles": FileType(
            name="tiles", format="fits", membership=Membership(columns=("tile", "exposure", "weight", "mask"))
        ),
        "difference": FileType(name="difference", template=f"{{pair}}_difference{END}"),
        "coadd": FileType(name="coadd", template=f"{{tile}}_{{band}}_coadd{END}"),
    }


def add_rows(world: World, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put rows on record with a file, as those who register one do."""
    columns = list(rows[0]) if rows else ["pair", "plus", "minus"]
    attachment = Attachment(kind="membership", sha256=f"{abs(hash(name)):064d}", size_bytes=1, rows=len(rows))
    id_ = load(world.database, attachment, columns, [list(row.values()) for row in rows], now=NIGHT)
    world.database.write(lambda session: attach(session, [file_id(session, name)], [[id_]]))


def file_id(session: Session, name: str) -> int:
    return session.scalars(select(FileRow.id).where(FileRow.name == name)).one()


def add_pairs(world: World, *rows: tuple[int, int | None, int | None], exposure: int = 900) -> str:
    """Register a table of pairs; return its name."""
    world.add_raw("pairs", [exposure], [1])
    name = f"pairs_{exposure:06d}_01.fits"
    add_rows(world, name, [dict(zip(PAIRS, row, strict=True)) for row in rows])
    return name


def add_images(world: World, *exposures: int, **more: Any) -> None:
    world.add_raw("projected", exposures, [1], **more)


def image(exposure: int) -> str:
    return f"projected_{exposure:06d}_01.fits"


def test_a_job_a_pair_takes_the_two_images_of_its_row_and_no_others(world: World) -> None:
    """X07, X10."""
    add_images(world, *range(1, 6))
    table = add_pairs(world, (10, 1, 2), (9, 2, 3), (11, 5, 1))
    plan = world.plan(make_campaign(DIFFERENCE))
    assert units(plan) == ["pair=9", "pair=10", "pair=11"]
    [stage] = plan.stages
    assert inputs(stage, "images") == {
        "pair=9": [image(2), image(3)],
        "pair=10": [image(1), image(2)],
        "pair=11": [image(1), image(5)],
    }
    assert set(map(tuple, inputs(stage, "pairs").values())) == {(table,)}
    assert [job.data_id for job in stage.jobs] == [{"pair": 9}, {"pair": 10}, {"pair": 11}]
    assert stage.common.rules == (
        "raw or manual; rows of its files make the units",
        "raw or manual, through pairs",
    )


def test_a_table_that_no_step_reads_is_neither_staged_nor_recorded(world: World) -> None:
    """X07: a job stages and records exactly the files that it reads."""
    add_images(world, 1, 2)
    add_pairs(world, (1, 1, 2))
    campaign = make_campaign(DIFFERENCE)
    world.seal(campaign, "difference")
    [order] = world.issue("difference")
    assert [(each.role, each.name) for each in order.inputs] == [("images", image(1)), ("images", image(2))]
    assert order.data_id == {"pair": 1}
    step = {**DIFFERENCE["steps"][0], "inputs": ["pairs", "images"]}
    other = make_campaign({**DIFFERENCE, "steps": [step]}, name="night2")
    world.seal(other, "difference")
    [order] = world.issue("difference", campaign="night2")
    assert [each.role for each in order.inputs] == ["pairs", "images", "images"]


def test_units_that_an_earlier_stage_makes_are_known_in_their_turn(world: World) -> None:
    """X05: pairs found at run time."""
    world.add_raw("raw", [1, 2, 3], [1])
    project = {**PROJECT, "per": ["instrument", "exposure"]}
    of_stages = {
        "pairs": {"type": "pairs", "source": {"stage": "overlaps"}},
        "images": {**DIFFERENCE["inputs"]["images"], "source": {"stage": "project"}},
    }
    last = {
        "name": "last",
        "per": ["pair"],
        "inputs": {"image": {"type": "difference", "source": {"stage": "difference"}}},
        "steps": [{"name": "s", "argv": ["s"]}],
    }
    campaign = make_campaign(project, OVERLAPS, {**DIFFERENCE, "inputs": of_stages}, last)
    plan = world.plan(campaign)
    assert plan.problems == ()
    assert [(each.known_after, each.projected, len(each.jobs)) for each in plan.stages] == [
        ("", False, 3),
        ("", True, 1),
        ("overlaps", True, 0),
        ("difference", True, 0),
    ]
    world.seal(campaign, "project")
    for order in world.issue("project"):
        world.end(order)
    world.seal_plan(campaign, world.plan_stage(campaign, "overlaps"))
    [order] = world.issue("overlaps")
    world.end(order)
    [table] = order.steps[0].outputs[0].names
    add_rows(world, table, [{"pair": 1, "plus": 1, "minus": 2}, {"pair": 2, "plus": 2, "minus": 3}])
    made = world.plan_stage(campaign, "difference")
    assert (made.problems, made.known_after, made.projected) == ((), "", False)
    assert inputs(made, "images")["pair=2"] == [f"{each}_projected_c0001a01.fits" for each in (2, 3)]
    assert world.seal_plan(campaign, made).jobs == 2


def test_rows_and_files_together_make_units_many_to_many(world: World) -> None:
    """X07: an image in several tiles, a tile of several images, by band."""
    for exposure, band in ((1, "g"), (2, "g"), (3, "r")):
        add_images(world, exposure, band=band)
    world.add_raw("tiles", [900], [1])
    world.add_raw("mask", [7], [1])
    rows = [("b", 1), ("a", 1), ("a", 2), ("a", 3), ("b", 3), ("a", 2)]
    masks = {"a": "mask_000007_01.fits", "b": None}
    add_rows(
        world,
        "tiles_000900_01.fits",
        [{"tile": tile, "exposure": number, "weight": 0.5, "mask": masks[tile]} for tile, number in rows],
    )
    plan = world.plan(make_campaign(COADD))
    assert units(plan) == ["tile=a,band=g", "tile=a,band=r", "tile=b,band=g", "tile=b,band=r"]
    assert inputs(plan.stages[0], "images") == {
        "tile=a,band=g": [image(1), image(2)],
        "tile=a,band=r": [image(3)],
        "tile=b,band=g": [image(1)],
        "tile=b,band=r": [image(3)],
    }
    assert inputs(plan.stages[0], "mask") == {
        "tile=a,band=g": ["mask_000007_01.fits"],
        "tile=a,band=r": ["mask_000007_01.fits"],
        "tile=b,band=g": [],
        "tile=b,band=r": [],
    }
    assert plan.stages[0].jobs[0].data_id == {"tile": "a", "band": "g"}


def test_a_row_that_names_a_file_that_is_not_there_is_told(small_world: World) -> None:
    """X07: too few files, with the row."""
    add_images(small_world, 1, 2)
    add_pairs(small_world, (1, 1, 2), (12, 2, 7), (13, 8, None))
    one, none = small_world.plan(make_campaign(DIFFERENCE)).problems
    assert "at least 2 projected needed, 1 found (raw or manual): unit pair=12 (pair=12 wants exposure=7)" in one
    assert "at least 2 projected needed, none found (raw or manual): unit pair=13 (pair=13 wants exposure=8)" in none


def test_a_stage_that_does_with_fewer_says_that_rows_name_more(small_world: World) -> None:
    add_images(small_world, 1, 2)
    add_pairs(small_world, (1, 1, 2), (12, 2, 7))
    images = {**DIFFERENCE["inputs"]["images"], "min": 1}
    plan = small_world.plan(make_campaign({**DIFFERENCE, "inputs": {**DIFFERENCE["inputs"], "images": images}}))
    assert plan.problems == ()
    [whole, lacking] = [
        next(each.rule for each in plan.stages[0].inputs(job) if each.role == "images") for job in plan.stages[0].jobs
    ]
    assert (whole, lacking) == (
        "raw or manual, through pairs",
        "raw or manual, through pairs, whose rows name files that are not there as well",
    )


def problems(world: World, stage: Mapping[str, Any], **of_images: Any) -> str:
    """Plan a stage whose images are declared otherwise; return what is wrong."""
    images = {**stage["inputs"]["images"], **of_images}
    stage = {**stage, "inputs": {**stage["inputs"], "images": images}}
    return "\n".join(world.plan(make_campaign(stage)).problems)


def test_rows_that_are_not_what_files_are_named_by_are_told(small_world: World) -> None:
    add_images(small_world, 1, 2)
    small_world.add_raw("pairs", [900], [1])
    add_rows(small_world, "pairs_000900_01.fits", [{"pair": 1, "plus": "1", "minus": 2}])
    told = problems(small_world, DIFFERENCE)
    assert "input 'pairs': a row has exposure as str, and the site's type of it is int: file pairs_000900" in told


def test_rows_that_make_no_unit_are_told_with_their_file(small_world: World) -> None:
    add_images(small_world, 1, 2)
    small_world.add_raw("pairs", [900], [1])
    rows: list[dict[str, Any]] = [{"pair": None, "plus": 1, "minus": 2}, {"pair": "12", "plus": 1, "minus": 2}]
    add_rows(small_world, "pairs_000900_01.fits", rows)
    told = problems(small_world, DIFFERENCE)
    assert "a row has no pair, so that no unit can be made of it: file pairs_000900_01.fits" in told
    assert "a row has pair as str, and the site's type of it is int: file pairs_000900_01.fits" in told


def test_rows_from_before_their_type_had_a_column_are_told(small_world: World) -> None:
    add_images(small_world, 1, 2)
    small_world.add_raw("pairs", [900], [1])
    add_rows(small_world, "pairs_000900_01.fits", [{"pair": 1, "plus": 1}])
    told = problems(small_world, DIFFERENCE)
    assert "rows have not got minus, which their file type has now: take the file in again: file pairs_000900" in told


def test_two_tables_with_the_same_unit_are_told_apart_or_refused(small_world: World) -> None:
    add_images(small_world, 1, 2, 3)
    tables = [add_pairs(small_world, (1, 1, 2)), add_pairs(small_world, (1, 1, 3), (2, 2, 3), exposure=901)]
    assert "2 files of type pairs fit where at most 1 may be" in problems(small_world, DIFFERENCE)
    one = {**DIFFERENCE["inputs"], "pairs": {"type": "pairs", "where": "exposure == 901"}}
    [stage] = small_world.plan(make_campaign({**DIFFERENCE, "inputs": one})).stages
    assert inputs(stage, "pairs") == {"pair=1": [tables[1]], "pair=2": [tables[1]]}
    assert inputs(stage, "images")["pair=1"] == [image(1), image(3)]


@pytest.mark.parametrize("rows", ["none", "no table"])
def test_no_row_is_nothing_to_do(small_world: World, rows: str) -> None:
    add_images(small_world, 1, 2)
    if rows == "none":
        add_pairs(small_world)
    told = problems(small_world, DIFFERENCE)
    has = " has a row that makes a unit" if rows == "none" else ""
    assert f"input 'pairs': no pairs raw or manual{has}: there is nothing to do" in told


def test_a_unit_that_no_row_is_about_is_told(small_world: World) -> None:
    add_images(small_world, 1, 2, band="g")
    small_world.add_raw("tiles", [900], [1])
    add_rows(small_world, "tiles_000900_01.fits", [{"tile": "a", "exposure": 1, "weight": 1, "mask": None}])
    stage = {
        **COADD,
        "per": ["band", "tile"],
        "units_from": "raw",
        "inputs": {"raw": {"type": "raw", "max": None}, **COADD["inputs"]},
    }
    small_world.add_raw("raw", [1], [1], band="g", tile="a")
    small_world.add_raw("raw", [2], [1], band="g", tile="z")
    told = problems(small_world, stage)
    assert "1 projected needed, none found (raw or manual): unit band=g,tile=z (no row is about band=g,tile=z)" in told
    assert "tile=a" not in told


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ({"match": []}, "the rows of 'pairs' have pair, plus, minus, by none of which its files are named; say in"),
        ({"match": None}, "the rows of 'pairs' have pair, plus, minus, by none of which its files are named; say in"),
        ({"match": {"exposure": ["plus", "night"]}}, "compares exposure with plus, night, of which some are columns"),
        ({"match": {"exposure": ["plsu"]}}, "match names 'plsu', which is not a key of any file type (did you mean"),
        ({"through": "raw"}, "it comes through 'raw', and files of type 'raw' have no rows; give the type a"),
    ],
)
def test_what_cannot_come_through_rows_is_told(small_world: World, images: dict[str, Any], told: str) -> None:
    add_images(small_world, 1, 2)
    small_world.add_raw("raw", [1], [1])
    add_pairs(small_world, (1, 1, 2))
    stage = {**DIFFERENCE, "inputs": {**DIFFERENCE["inputs"], "raw": {"type": "raw"}}}
    assert told in problems(small_world, stage, **images)


def test_a_runaway_is_refused_with_the_count(world: World) -> None:
    """X05: max_units."""
    add_images(world, *range(1, 6))
    add_pairs(world, (1, 1, 2), (2, 2, 3), (3, 3, 4))
    plan = world.plan(make_campaign({**DIFFERENCE, "max_units": 2}))
    reason = "3 units, and max_units is 2: narrow what makes them by 'where', or raise it"
    assert plan.problems == (f"stage 'difference', input 'pairs': {reason}",)
    assert not world.plan(make_campaign({**DIFFERENCE, "max_units": 3})).problems
    project = {**PROJECT, "max_units": 1}
    world.add_raw("raw", [1, 2], [1])
    assert "2 units, and max_units is 1" in world.plan(make_campaign(project)).problems[0]


def test_other_keys_are_asked_beside_the_rows(small_world: World) -> None:
    add_images(small_world, 1, band="g")
    add_images(small_world, 2, band="r")
    small_world.add_raw("raw", [900], [1], band="r")
    small_world.add_raw("tiles", [900], [1])
    rows = [{"tile": "a", "exposure": number, "weight": 1, "mask": None} for number in (1, 2)]
    add_rows(small_world, "tiles_000900_01.fits", rows)
    images = {"match": {"also": {"band": "raw.band"}}}
    raw = {"type": "raw", "match": []}
    stage = {**COADD, "per": ["tile"], "units_from": "tiles", "inputs": {**COADD["inputs"], "raw": raw}}
    stage["inputs"]["images"] = {**stage["inputs"]["images"], **images}
    stage["steps"] = [{"name": "s", "argv": ["swarp"], "inputs": ["images"]}]
    plan = small_world.plan(make_campaign(stage))
    assert plan.problems == ()
    assert inputs(plan.stages[0], "images") == {"tile=a": [image(2)]}


def test_files_that_differ_in_a_key_are_told_where_something_is_chosen_by_it(world: World) -> None:
    """A unit that lacks what its rows name says so; the key in which its files differ would choose among nothing."""
    world.types["raw"] = FileType(name="raw", metadata={"dit": MetadataKey(keywords=("DIT",), type="float")})
    world.types["mask"] = world.types["raw"].model_copy(update={"name": "mask"})
    for exposure, dit in ((1, 1.0), (2, 2.0)):
        world.add_raw("raw", [exposure], [1], metadata={"dit": dit})
    add_pairs(world, (1, 7, 7))
    stage = {
        "name": "s",
        "per": ["night"],
        "units_from": "raw",
        "inputs": {
            "raw": {"type": "raw", "max": None},
            "pairs": {"type": "pairs", "max": None},
            "mask": {"type": "mask", "through": "pairs", "match": {"exposure": "plus", "dit": "dit"}},
        },
        "steps": [{"name": "s", "argv": ["s"], "inputs": ["raw", "mask"]}],
    }
    world.add_raw("mask", [8], [1], metadata={"dit": 1.0})
    assert [problem for problem in world.plan(make_campaign(stage)).problems if "at least 1 mask needed" in problem]
    world.add_raw("mask", [7], [1], metadata={"dit": 1.0})
    [problem] = world.plan(make_campaign(stage)).problems
    assert "the files of a unit differ in dit, by which this input is chosen" in problem
