"""The texts of steps: placeholders, and the list and configuration files that are written for a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from nightmill.errors import BadText
from nightmill.model.bundle import SealedBundle
from nightmill.model.dimensions import KeyValue
from nightmill.model.file_type import FileType, MetadataKey
from nightmill.model.order import JobOrder
from nightmill.model.pipeline import StepFile
from nightmill.planning.again import issued_order
from nightmill.planning.plan import plan_campaign
from nightmill.planning.texts import SeenFile, Texts
from tests.planning.world import World, make_campaign

KNOWN: Final[Sequence[Mapping[str, KeyValue]]] = (
    {"dit": 0.5, "tag": "T1", "good": False},
    {"dit": 1.0, "tag": "T2", "good": True},
)
FRAMES: Final = tuple(
    SeenFile(f"../inputs/f{n}.fits", f"f{n}.fits", "raw", known.get) for n, known in enumerate(KNOWN, start=1)
)
DARK: Final = SeenFile("../inputs/dark.fits", "dark.fits", "dark", {"dit": 10.0}.get)


def texts(**changes: Any) -> Texts:
    given: dict[str, Any] = {
        "inputs": {"frames": FRAMES, "dark": (DARK,), "mask": ()},
        "outputs": {"image": (SeenFile("image.fits", "image.fits", "image", {"target": "M31"}.get),)},
        "several": frozenset({"frames"}),
        "parameters": {"sigma": 3.5, "robust": True},
        "unit": {"target": "M31", "dit": 10.0},
        "pipeline_dir": "../bundle",
    }
    return Texts(**{**given, **changes})


def written(templates: Mapping[str, str] | None = None, **files: Mapping[str, Any]) -> dict[str, str]:
    found = {name: StepFile.model_validate(file) for name, file in files.items()}
    return {each.name: each.text for each in texts().write(found, templates or {})}


def test_a_line_with_a_role_becomes_a_line_a_file() -> None:
    """X09."""
    lines = ["# {unit.target}", "{inputs.frames} {inputs.frames.tag}", "{inputs.dark} DARK {parameters.robust}"]
    assert written(sof={"lines": lines}) == {
        "sof": "# M31\n../inputs/f1.fits T1\n../inputs/f2.fits T2\n../inputs/dark.fits DARK true\n"
    }


def test_a_line_may_name_another_role_beside_the_one_that_it_is_about() -> None:
    assert written(list={"lines": ["{inputs.frames.name} {inputs.dark} {outputs.image} {inputs.frames}"]}) == {
        "list": "f1.fits ../inputs/dark.fits image.fits ../inputs/f1.fits\n"
        "f2.fits ../inputs/dark.fits image.fits ../inputs/f2.fits\n"
    }


def test_a_line_about_an_optional_input_that_is_not_there_is_left_out() -> None:
    assert written(sof={"lines": ["{inputs.mask} MASK", "{inputs.dark} DARK"]}) == {"sof": "../inputs/dark.fits DARK\n"}


def test_what_looks_like_no_placeholder_is_text() -> None:
    assert written(ini={"lines": ["a = {b} ${HOME} {inputs} {}"]}) == {"ini": "a = {b} ${HOME} {inputs} {}\n"}


def test_a_template_has_the_files_with_their_keys() -> None:
    template = (
        "SIGMA {{ parameters.sigma }}\n"
        "{% for frame in inputs.frames if frame.good %}\n"
        "  {{ frame }} {{ frame.name }} {{ frame.dit }} {{ frame.good }}\n"
        "{% endfor %}\n"
        "{% if inputs.mask %}\n"
        "MASK {{ inputs.mask }}\n"
        "{% endif %}\n"
        "OUT {{ outputs.image }} {{ unit.target }} {{ pipeline_dir }} {{ files['default.sex'] }}\n"
    )
    assert written({"sex.j2": template}, **{"default.sex": {"template": "sex.j2"}}) == {
        "default.sex": "SIGMA 3.5\n  ../inputs/f2.fits f2.fits 1.0 true\nOUT image.fits M31 ../bundle"
        " ../files/default.sex\n"
    }


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ inputs.dark.tag }}", r"file 'x': dark.fits has no tag"),
        ("{{ inputs.drak }}", r"template x.j2 cannot be filled in: 'dict object' has no attribute 'drak'"),
        ("a\n{% for %}", r"template x.j2:2 cannot be filled in: "),
        ("{{ inputs.mask }}", r"it puts out what is not there: ask with 'if' first"),
        ("{{ 1 / 0 }}", r"template x.j2 cannot be filled in: division by zero"),
        ("{{ ''.__class__.__mro__ }}", r"access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ unit.update({'target': 'x'}) }}", r"is unsafe"),
        ("{% include '/etc/passwd' %}", r"no loader for this environment"),
        ("{% for n in range(10000000) %}{% endfor %}", r"Range too big"),
    ],
)
def test_a_template_that_cannot_be_filled_in_says_why(template: str, message: str) -> None:
    with pytest.raises(BadText, match=message):
        written({"x.j2": template}, x={"template": "x.j2"})


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("{inputs.frames}", ["../inputs/f1.fits", "../inputs/f2.fits"]),
        ("{inputs.frames.dit}", ["0.5", "1.0"]),
        ("--dit={inputs.dark.dit}", ["--dit=10.0"]),
        ("{inputs.mask}", []),
        ("--mask={inputs.mask}", []),
        ("@{files.in.list}", ["@../files/in.list"]),
        ("{unit.dit}", ["10.0"]),
        ("{unit.dit:06.2f}", ["010.00"]),
        ("{inputs.frames.dit:.0e}", ["5e-01", "1e+00"]),
        ("-s {parameters.sigma:.2f}", ["-s 3.50"]),
        ("{inputs.mask.dit:.0f}", []),
    ],
)
def test_items_of_a_command_line(item: str, expected: list[str]) -> None:
    assert list(texts().items(item)) == expected


def test_a_value_with_a_format_is_a_text_in_lines_and_arguments() -> None:
    """X09: a list can have the names that a program will give to its files."""
    assert written(list={"lines": ["d{inputs.frames.dit:05.1f}.head"]}) == {"list": "d000.5.head\nd001.0.head\n"}
    assert texts().argument("{parameters.sigma:.1f}") == "3.5"
    assert texts().argument("{parameters.sigma}") == 3.5


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("{inputs.frames.tag:06d}", "{inputs.frames.tag:06d}: f1.fits has 'T1', which cannot be written so ("),
        ("{unit.dit:06d}", "{unit.dit:06d}: the value is 10.0, which cannot be written so ("),
    ],
)
def test_a_format_that_is_not_one_of_the_value_is_told(item: str, told: str) -> None:
    with pytest.raises(BadText) as caught:
        list(texts().items(item))
    assert caught.value.message.startswith(told)


STAGE: Final[Mapping[str, Any]] = {
    "name": "combine",
    "per": ["instrument", "night"],
    "inputs": {"frames": {"type": "raw", "max": None}},
    "steps": [
        {
            "name": "esorex",
            "argv": ["esorex", "{files.in.sof}"],
            "inputs": ["frames"],
            "files": {
                "in.sof": {"lines": ["{inputs.frames} {inputs.frames.tag}"]},
                "conf.ini": {"template": "templates/conf.ini"},
            },
            "outputs": {"image": {"type": "image"}},
        }
    ],
}
BUNDLE: Final = SealedBundle(
    digest="1" * 64,
    size_bytes=1,
    store="backbone",
    path="bundles/1.tar",
    templates={"templates/conf.ini": "n = {{ inputs.frames | length }}\n"},
)


@pytest.fixture
def tagged(world: World) -> World:
    world.types = {
        "raw": FileType(name="raw", metadata={"tag": MetadataKey(keywords=("TAG",))}),
        "image": FileType(name="image", template="{instrument}_{night}_c{campaign:04d}a{attempt:02d}.fits"),
    }
    world.add_raw("raw", [1, 2], [1], metadata={"tag": "FLAT"})
    return world


def orders(world: World) -> list[JobOrder]:
    campaign = make_campaign(STAGE)
    number = world.submit(campaign)
    with world.database.reading() as session:
        plan = plan_campaign(session, campaign, world.site, number, BUNDLE)
    plan.require()
    world.seal_plan(campaign, plan.stages[0])
    return world.issue("combine")


def test_the_text_stands_in_the_order_and_is_the_same_when_it_is_had_again(tagged: World) -> None:
    """X09."""
    [order] = orders(tagged)
    assert {file.name: file.text for file in order.steps[0].files} == {
        "in.sof": "../inputs/raw_000001_01.fits FLAT\n../inputs/raw_000002_01.fits FLAT\n",
        "conf.ini": "n = 2\n",
    }
    assert order.steps[0].argv == ("esorex", "../files/in.sof")
    assert order.bundle is not None
    assert "templates" not in order.bundle.model_dump()
    with tagged.database.reading() as session:
        assert issued_order(session, "night1", "combine", order.attempt.unit) == order


def test_a_file_that_lacks_a_key_is_told_by_the_plan(tagged: World) -> None:
    tagged.add_raw("raw", [3], [1])
    with tagged.database.reading() as session:
        plan = plan_campaign(session, make_campaign(STAGE), tagged.site, 1, BUNDLE)
    assert list(plan.problems) == [
        "stage 'combine': file 'in.sof': raw_000003_01.fits has no tag: unit instrument=nmcam,night=20260110"
    ]


def test_a_key_that_the_site_does_not_know_and_a_template_without_a_folder(tagged: World) -> None:
    del tagged.types["raw"]
    tagged.types["raw"] = FileType(name="raw")
    problems = tagged.plan(make_campaign(STAGE)).problems
    assert problems[0].startswith(
        "stage 'combine', step 'esorex': a text asks for 'tag', which is not a key of any file"
    )
    assert problems[1] == (
        "stage 'combine', step 'esorex': file 'conf.ini' has a template, 'templates/conf.ini', and the pipeline has no"
        " folder"
    )
    assert len(problems) == 2
