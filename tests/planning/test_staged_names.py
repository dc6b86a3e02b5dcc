"""Names by which a job finds its inputs, where its programs insist on some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from nightmill.model.file_type import FileType, MetadataKey
from nightmill.model.order import JobOrder
from nightmill.planning.again import issued_order
from tests.planning.world import World, changed, make_campaign

COADD: Final[Mapping[str, Any]] = {
    "name": "coadd",
    "per": ["instrument", "night"],
    "inputs": {
        "images": {"type": "raw", "max": None, "staged_as": "e{exposure:04d}_{detector}.fits"},
        "weights": {"type": "weight", "max": None, "staged_as": "e{exposure:04d}_{detector}.weight.fits"},
    },
    "steps": [
        {
            "name": "swarp",
            "argv": ["swarp", "@{files.images.list}", "{inputs.weights.name}"],
            "inputs": ["images", "weights"],
            "files": {"images.list": {"lines": ["{inputs.images}"]}},
            "outputs": {"image": {"type": "image"}},
        }
    ],
}


@pytest.fixture
def pairs(world: World) -> World:
    """Give a world with two images and their weights, one of each of a target that no file name may have."""
    world.types = {
        **{
            name: FileType(name=name, metadata={"target": MetadataKey(keywords=("OBJECT",))})
            for name in ("raw", "weight")
        },
        "image": FileType(name="image", template="{instrument}_{night}_c{campaign:04d}a{attempt:02d}.fits"),
    }
    for name in ("raw", "weight"):
        world.add_raw(name, [1], [1], metadata={"target": "M31"})
        world.add_raw(name, [2], [1], metadata={"target": "M 31/32"})
    return world


def order(world: World, stage: Mapping[str, Any]) -> JobOrder:
    campaign = make_campaign(stage)
    world.submit(campaign)
    plan = world.plan(campaign)
    plan.require()
    world.seal_plan(campaign, plan.stages[0])
    [made] = world.issue(stage["name"])
    return made


def problems(world: World, role: str, staged_as: str, stage: Mapping[str, Any] = COADD) -> list[str]:
    return list(world.plan(make_campaign(changed(stage, role, staged_as=staged_as))).problems)


@pytest.mark.req("X09")
def test_files_are_staged_by_their_keys_and_keep_their_names(pairs: World) -> None:
    made = order(pairs, COADD)
    assert [(file.name, file.staged_as) for file in made.inputs] == [
        ("raw_000001_01.fits", "e0001_1.fits"),
        ("raw_000002_01.fits", "e0002_1.fits"),
        ("weight_000001_01.fits", "e0001_1.weight.fits"),
        ("weight_000002_01.fits", "e0002_1.weight.fits"),
    ]
    [step] = made.steps
    assert step.files[0].text == "../inputs/e0001_1.fits\n../inputs/e0002_1.fits\n"
    assert step.argv[2:] == ("weight_000001_01.fits", "weight_000002_01.fits")
    assert step.inputs == tuple(file.name for file in made.inputs)
    with pairs.database.reading() as session:
        assert issued_order(session, "night1", "coadd", made.attempt.unit) == made


def test_an_order_without_such_names_is_as_it_was(pairs: World) -> None:
    plain = changed(changed(COADD, "images", staged_as=""), "weights", staged_as="{name}")
    made = order(pairs, plain)
    assert all(file.staged_as == "" for file in made.inputs)
    assert "staged_as" not in made.model_dump_json(exclude_defaults=True)


@pytest.mark.parametrize(
    ("role", "staged_as", "told"),
    [
        (
            "weights",
            "e{detector}.fits",
            "weight_000001_01.fits and weight_000002_01.fits are both staged as e1.fits; put a key into 'staged_as'",
        ),
        (
            "weights",
            "e{exposure:04d}_{detector}.fits",
            "raw_000001_01.fits and weight_000001_01.fits are both staged as e0001_1.fits; put a key",
        ),
        (
            "weights",
            "e{target}.fits",
            "input 'weights': weight_000002_01.fits cannot be staged as e{target}.fits: target is 'M 31/32', which is",
        ),
        ("weights", "e{band}.fits", "input 'weights': weight_000001_01.fits has no band, which 'staged_as' asks for"),
    ],
)
def test_names_that_cannot_be_are_problems_of_the_plan(pairs: World, role: str, staged_as: str, told: str) -> None:
    [problem] = problems(pairs, role, staged_as)
    assert problem.startswith(f"stage 'coadd': {told}")
    assert problem.endswith(": unit instrument=nmcam,night=20260110")


def test_a_key_that_the_site_does_not_know_is_told_with_a_guess(pairs: World) -> None:
    assert problems(pairs, "weights", "e{exposur}.fits") == [
        "stage 'coadd', input 'weights': staged_as asks for 'exposur', which is not a key of any file type (did you"
        " mean 'exposure'?)"
    ]


def test_a_file_that_fills_two_roles_has_one_name(pairs: World) -> None:
    both = {**COADD, "inputs": {role: {**declared, "type": "raw"} for role, declared in COADD["inputs"].items()}}
    [problem] = problems(pairs, "weights", "w{exposure}.fits", both)
    assert (
        "input 'weights': raw_000001_01.fits is staged as w1.fits, and for another role as e0001_1.fits; give"
        in problem
    )
    again = changed(both, "weights", staged_as=COADD["inputs"]["images"]["staged_as"])
    assert [file.staged_as for file in order(pairs, again).inputs] == ["e0001_1.fits", "e0002_1.fits"]
