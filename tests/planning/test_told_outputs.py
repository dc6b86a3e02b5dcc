"""Plans with outputs that tell what they are: what of their names is fixed is proven, what follows from them is not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import pytest

from nightmill.backbone.catalogue.registration import NewFile
from nightmill.model.file_type import FileType, MetadataKey
from nightmill.model.origin import Origin
from nightmill.planning.orders import render
from nightmill.planning.outputs import claims
from nightmill.planning.plan import plan_campaign
from tests.planning.world import NIGHT, World, make_campaign

TYPES: Final = {
    "raw": FileType(name="raw"),
    "head": FileType(
        name="head",
        template="{night}_{exposure:06d}_{role}_c{campaign:04d}a{attempt:02d}.head",
        metadata={
            "rms": MetadataKey(type="float", told=True),
            "kind": MetadataKey(keywords=("KIND",)),
            "taken_at": MetadataKey(type="time", told=True),
        },
    ),
    "tiled": FileType(name="tiled", template="{tile}_c{campaign:04d}a{attempt:02d}.fits"),
    "lists": FileType(name="lists", template="{night}_{role}{n}_c{campaign:04d}a{attempt:02d}.txt"),
}


def stage(name: str = "solve", outputs: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Give a stage whose outputs, by default, tell their exposure."""
    heads = {"heads": {"type": "head", "produces": "*.head", "tells": ["exposure"], "max": 9}}
    steps = [{"name": name, "argv": ["solve", "{inputs.raw}"], "inputs": ["raw"], "outputs": outputs or heads}]
    return {
        "name": name,
        "per": ["night"],
        "inputs": {"raw": {"type": "raw", "max": None}},
        "steps": steps,
        **changes,
    }


def output(**changes: Any) -> dict[str, Any]:
    return {"type": "head", "produces": "*.head", "tells": ["exposure"], "max": 9, **changes}


@pytest.fixture(autouse=True)
def types(request: pytest.FixtureRequest) -> None:
    """Let the world have such types, and a file of each of two nights."""
    name = "world" if "world" in request.fixturenames else "small_world"
    world: World = request.getfixturevalue(name)
    world.types = dict(TYPES)
    for night in (20260110, 20260111):
        world.register([_raw(night)])


def _raw(night: int) -> NewFile:
    data_id: dict[str, str | int] = {"night": night, "exposure": night % 100, "detector": 1}
    return NewFile(f"raw{night}.fits", "raw", Origin.RAW, 1, "0" * 64, data_id, store="backbone", path=f"raw/{night}")


def problems(world: World, *stages: Mapping[str, Any]) -> list[str]:
    return list(world.plan(make_campaign(*stages)).problems)


@pytest.mark.req("X05")
def test_names_are_planned_as_far_as_they_are_known(world: World) -> None:
    plan = world.plan(make_campaign(stage()))
    assert plan.problems == ()
    [solve] = plan.stages
    names = [claim.name for job in solve.jobs for claim in claims(solve.common, job.data_id)]
    assert names == [
        "20260110_{exposure:06d}_heads_c0001a01.head",
        "ccd_solve_20260110_c0001a01.log",
        "20260111_{exposure:06d}_heads_c0001a01.head",
        "ccd_solve_20260111_c0001a01.log",
    ]
    order = render(solve.common, solve.jobs[0], 2)
    [heads] = order.steps[0].outputs
    assert (heads.names, heads.open_name, heads.tells, heads.max) == (
        (),
        "20260110_{exposure:06d}_heads_c0001a02.head",
        ("exposure",),
        9,
    )
    assert heads.data_id == {"night": 20260110}


def test_what_a_file_tells_is_not_that_of_the_one_file_of_the_unit(world: World) -> None:
    one = stage(inputs={"raw": {"type": "raw"}}, outputs={"heads": output(tells=["exposure", "kind"])})
    plan = world.plan(make_campaign(one))
    assert plan.problems == ()
    [heads] = render(plan.stages[0].common, plan.stages[0].jobs[0], 1).steps[0].outputs
    assert heads.data_id == {"night": 20260110, "detector": 1}


@pytest.mark.req("X05")
def test_units_that_depend_on_what_is_told_are_known_when_it_was_made(world: World) -> None:
    per_exposure = stage(
        "measure",
        {"catalog": {"type": "lists", "to": "none"}},
        per=["exposure"],
        inputs={"raw": {"type": "head", "source": {"stage": "solve"}}},
    )
    after = stage(
        "last",
        {"end": output(produces="end*.head")},
        per=["night"],
        inputs={"raw": {"type": "lists", "source": {"stage": "measure"}, "max": None}},
    )
    per_exposure["steps"][0]["outputs"]["catalog"] = {"type": "lists"}
    world.types["lists"] = FileType(name="lists", template="{exposure}_c{campaign:04d}a{attempt:02d}.txt")
    per_night = stage(
        "collect", {"all": output(type="head", produces="all*.head")},
        inputs={"raw": {"type": "head", "source": {"stage": "solve"}, "max": None}},
    )  # fmt: skip
    plan = world.plan(make_campaign(stage(), per_exposure, after, per_night))
    assert plan.problems == ()
    assert [(each.stage.name, len(each.jobs), each.known_after) for each in plan.stages] == [
        ("solve", 2, ""),
        ("measure", 0, "solve"),
        ("last", 0, "measure"),
        ("collect", 2, ""),
    ]
    asking = stage(
        "asking", {"all": output(produces="all*.head")},
        inputs={"raw": {"type": "head", "source": {"stage": "solve"}, "where": "exposure > 3", "max": None}},
    )  # fmt: skip
    wrong = {**asking, "name": "wrong", "inputs": {"raw": {**asking["inputs"]["raw"], "where": "exposur > 3"}}}
    plan = world.plan(make_campaign(stage(), asking, wrong))
    assert [each.known_after for each in plan.stages[:2]] == ["", "solve"]
    assert any("nothing is named 'exposur'" in problem for problem in plan.problems)


@pytest.mark.req("X05")
def test_a_later_stage_takes_its_units_from_what_was_told(world: World) -> None:
    measure = stage(
        "measure", {"catalog": {"type": "per_tile", "produces": "*.fits", "tells": ["tile"]}}, per=["exposure"],
        inputs={"raw": {"type": "head", "source": {"stage": "solve"}}},
    )  # fmt: skip
    with_template(world, "per_tile", "{exposure}_{tile}")
    campaign = make_campaign(stage(), measure)
    world.seal(campaign, "solve")
    [order, _other] = world.issue("solve")
    [heads] = order.steps[0].outputs
    named = tuple(heads.open_name.format(exposure=exposure) for exposure in (3, 4))
    for name, exposure in zip(named, (3, 4), strict=True):
        made = heads.model_copy(update={"names": (name,), "data_id": {**heads.data_id, "exposure": exposure}})
        step = order.steps[0].model_copy(update={"outputs": (made,)})
        world.end(order.model_copy(update={"steps": (step,)}))
    plan = world.plan_stage(campaign, "measure")
    assert (plan.problems, plan.known_after) == ((), "")
    assert [job.unit for job in plan.jobs] == ["exposure=3", "exposure=4"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no keyword, and no metadata": (
        output(tells=["pair"]),
        "it tells 'pair', which is neither a dimension nor metadata of file type 'head'; add it there, as pair: {type:"
        " int, told: true}",
    ),
    "a slip": (output(tells=["expsure"]), "nor metadata of file type 'head' (did you mean 'exposure'?)"),
    "free": (
        output(tells=[], max=1),
        "has {exposure}, which may differ between the files of one unit; add exposure to",
    ),
    "numbers": (
        output(type="lists", tells=["exposure"]),
        "has {n}, which numbers files that nothing tells apart, and these tell exposure",
    ),
    "its own name": (
        output(produces="", max=1),
        "has {exposure}, which the file is yet to tell, so that its step cannot know its name; say in 'produces'",
    ),
    "nothing tells them apart": (
        output(type="tiled", tells=["exposure"]),
        "has {tile}, which may differ between the files of one unit",
    ),
    "an expression": (output(where="knd == 'X'"), "nothing is named 'knd' (did you mean 'kind'?)"),
    "the catalogue": (output(where="origin == 'raw'"), "origin is what the catalogue says of a file, not its header"),
    "a pattern": (output(produces="{exposure}{night}.head"), "nothing stands between {exposure} and {night}"),
    "a time": (
        output(produces="{taken_at}_{exposure}.head", tells=["exposure", "taken_at"]),
        "has {taken_at}, a time, and a step's names tell none",
    ),
    "a format": (
        output(produces="{exposure:q}.head"),
        "the format 'q' of {exposure} cannot be read backwards for a value of type int",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_told_is_a_problem_of_the_plan(small_world: World, case: str) -> None:
    declared, message = WRONG[case]
    found = problems(small_world, stage(outputs={"heads": declared}))
    assert any(message in problem for problem in found), found


def with_template(world: World, name: str, text: str) -> None:
    world.types[name] = FileType(name=name, template=text + "_c{campaign:04d}a{attempt:02d}.fits")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{night}_{exposure}", "{night}_cat_{exposure}"),
        ("{exposure}_{night}", "{exposure}_x{night}"),
        ("{exposure}_{night}", "{night}_{tile}"),
        ("{instrument}_{exposure}_{night}", "{instrument}_cat_{exposure}_{night}"),
    ],
)
def test_names_that_differ_in_what_is_fixed_are_proven(small_world: World, first: str, second: str) -> None:
    with_template(small_world, "one", first)
    with_template(small_world, "two", second)
    outputs = {
        "one": output(type="one", produces="*.a", tells=["exposure"]),
        "two": output(type="two", produces="*.b", tells=["exposure", "tile"] if "tile" in second else ["exposure"]),
    }
    per = ["instrument", "night"] if "instrument" in first else ["night"]
    if "tile" in second:  # a tile may be written as anything, an exposure in digits alone
        small_world.types["two"] = FileType(name="two", template="x{night}_{tile}_c{campaign:04d}a{attempt:02d}.fits")
        outputs["two"]["tells"] = ["tile"]
    if per != ["night"]:
        small_world.register([
            NewFile("i.fits", "raw", Origin.RAW, 1, "0" * 64, {"instrument": "cam", "night": 1}, store="backbone",
                    path="raw/i")
        ])  # fmt: skip
    found = [each for each in problems(small_world, stage(outputs=outputs, per=per)) if "a file has no" not in each]
    assert found == []


@pytest.mark.req("X05", "B12")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{night}_{tile}", "{night}_cat_{tile}"),
        ("{night}_{exposure}", "{night}_{exposure}{night}"),
        ("{tile}_{night}", "{night}_{tile}"),
        ("{tile}", "{tile}x"),
        ("{night}_{tile}", "{night}_fixed"),
    ],
)
def test_names_that_may_become_the_same_are_refused(small_world: World, first: str, second: str) -> None:
    with_template(small_world, "one", first)
    with_template(small_world, "two", second)
    told = {"one": ["exposure"] if "exposure" in first else ["tile"]}
    told["two"] = ["exposure"] if "exposure" in second else ["tile"] if "tile" in second else []
    outputs = {role: {"type": role, "produces": f"*.{role}", "tells": keys} for role, keys in told.items()}
    found = problems(small_world, stage(outputs=outputs))
    assert any("may become those of" in problem or "cannot tell units apart" in problem for problem in found), found
    assert len(small_world.plan(make_campaign(stage(outputs=outputs))).stages[0].jobs) < 2


def test_units_that_nothing_fixed_tells_apart(small_world: World) -> None:
    found = problems(small_world, stage(outputs={"all": output(type="tiled", tells=["tile"])}))
    assert found == [
        "stage 'solve': the template of file type 'tiled', '{tile}_c{campaign:04d}a{attempt:02d}.fits', lacks {night}:"
        " it cannot tell units apart: name {tile}_c0001a01.fits"
    ]


def test_stages_whose_names_may_become_the_same(small_world: World) -> None:
    with_template(small_world, "one", "{night}_{tile}")
    one = {"heads": output(type="one", tells=["tile"])}
    with_template(small_world, "fixed", "{night}_fixed")
    found = problems(small_world, stage("a", one), stage("b", {"fixed": {"type": "fixed"}}))
    assert found == [
        "stage 'b': the names of output 'heads' (one), completed by what its files tell, may become those of 'fixed'"
        " (fixed); let their templates differ, and the units be told apart, before the first or behind the last field"
        " that is told: 2 names, as 20260110_{tile}_c0001a01.fits (20260110_fixed_c0001a01.fits);"
        " 20260111_{tile}_c0001a01.fits (20260111_fixed_c0001a01.fits)"
    ]


@pytest.mark.req("X05", "B12")
def test_a_name_of_the_catalogue_that_a_file_may_get(world: World) -> None:
    name = "20260110_000007_heads_c0001a01.head"
    world.now = NIGHT + timedelta(hours=1)
    for each in (name, name.replace("000007", "cat"), name.replace("heads", "HEADS")):
        world.register([NewFile(each, "lists", Origin.MANUAL, 1, "0" * 64, provenance="by hand")])
    with world.database.reading() as session:
        assert plan_campaign(session, make_campaign(stage()), world.site, 1, as_of=NIGHT).problems == ()
    [solve] = world.plan(make_campaign(stage())).stages
    assert [job.unit for job in solve.jobs] == ["night=20260111"]
    assert list(solve.problems) == [
        "stage 'solve': the catalogue has a file that has a name of output 'heads' (head): name"
        " 20260110_000007_heads_c0001a01.head (20260110_{exposure:06d}_heads_c0001a01.head)"
    ]


def test_a_stage_that_is_planned_again_does_not_meet_its_own_files(world: World) -> None:
    campaign = make_campaign(stage())
    world.seal(campaign, "solve")
    [order, _other] = world.issue("solve")
    [heads] = order.steps[0].outputs
    made = heads.model_copy(update={"names": (heads.open_name.format(exposure=3),)})
    world.end(order.model_copy(update={"steps": (order.steps[0].model_copy(update={"outputs": (made,)}),)}))
    plan = world.plan_stage(campaign, "solve", number=1)
    assert (plan.problems, len(plan.jobs)) == ((), 2)


def test_scratch_files_are_of_no_type_and_have_no_name(small_world: World) -> None:
    make = {
        "name": "make",
        "argv": ["make"],
        "outputs": {
            "points": {"to": "none", "produces": "points.cat"},
            "parts": {"to": "none", "produces": "*.part", "max": 9},
            "heads": output(),
        },
    }
    use = {
        "name": "use",
        "argv": ["use", "{inputs.points}", "{inputs.parts}", "{inputs.heads}"],
        "inputs": ["points", "parts", "heads"],
        "files": {"conf": {"lines": ["AHEADER {inputs.points}"]}},
    }
    plan = small_world.plan(make_campaign(stage(steps=[make, use])))
    assert plan.problems == ()
    [solve] = plan.stages
    assert [claim.role for claim in claims(solve.common, solve.jobs[0].data_id)] == ["heads", "log"]
    order = render(solve.common, solve.jobs[0], 1)
    assert order.steps[1].argv == ("use", "../outputs/points.cat", "../outputs/{parts}", "../outputs/{heads}")
    assert order.steps[1].inputs == ("points.cat", "{parts}", "{heads}")
    assert order.steps[1].files[0].text == "AHEADER ../outputs/points.cat\n"
    assert set(order.file_types) == {"head"}
