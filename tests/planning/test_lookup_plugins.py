"""Lookups that come from outside of the tree: found, given their options, and held to what they promise."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from nightmill import plugins
from nightmill.backbone.schema import CampaignRow, JobRow, PlanRow
from nightmill.config.campaign import load_campaign
from nightmill.config.lookups import GROUP
from nightmill.errors import ConfigError, PlanRefused
from nightmill.model.base import canonical_json
from nightmill.model.campaign import Campaign
from nightmill.model.pipeline import LookupSetting
from nightmill.planning.lookups.bound import bind
from tests.planning.world import BIAS, SCIENCE, World, changed, make_campaign, write_campaign
from tests.support.packages import package as write_package

LAST = """\
from nightmill.model.base import Frozen
from nightmill.model.lookup import Found, Lookup


class Options(Frozen):
    skip: int = 0


class Last(Lookup[Options]):
    name = "last"
    options = Options
    word = "last"

    def within(self, options):
        return f"but for the last {options.skip}"

    def choose(self, options, shelf, unit):
        left = shelf.files[: max(len(shelf.files) - options.skip, 0)]
        return Found(left[-1:], f"of {len(shelf.files)}") if left else Found(near=f"all {len(shelf.files)} are skipped")
"""
CHOSEN = "overrides: {stages: {science: {inputs: {bias: {lookup: {strategy: last}}}}}}\n"
TOPIC = "stage 'science', input 'bias': "
BLAME = "tell those who maintain that package, or choose another lookup"

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Give a function that installs a package which offers a lookup, and returns its folder."""
    modules = set(sys.modules)

    def install(code: str = LAST, *, package: str = "lastlookup", offers: dict[str, str] | None = None) -> Path:
        folder = tmp_path / f"site-{package}"
        write_package(folder, package, code, {GROUP: offers or {"last": "Last"}})
        monkeypatch.syspath_prepend(str(folder))
        return folder

    yield install
    for name in set(sys.modules) - modules:
        if name.endswith("lookup"):
            del sys.modules[name]


def science(**changes: Any) -> dict[str, Any]:
    return changed(SCIENCE, "bias", **{"lookup": {"strategy": "last", "skip": 0}, **changes})


def filled(world: World) -> None:
    world.add_raw("raw_science", [7, 8], [1])
    for name in ("a.fits", "b.fits", "c.fits"):
        world.add_calibration(name, detector=1)


# ------------------------------------------------------------------------------------------------ in use


def test_a_plug_in_chooses_and_its_words_stand_in_rule_and_refusal(small_world: World, install: Install) -> None:
    install()
    filled(small_world)
    (stage,) = small_world.plan(make_campaign(science(lookup={"strategy": "last", "skip": 1}))).stages
    assert [[file.name for file in job.choices[1].files] for job in stage.jobs] == [["b.fits"], ["b.fits"]]
    assert list(stage.inputs(stage.jobs[0]))[1].rule == "last in set ccd: of 3"
    assert small_world.plan(make_campaign(science(lookup={"strategy": "last", "skip": 5}))).problems == (
        f"{TOPIC}no certified master_bias in set ccd for instrument=nmcam,detector=1 but for the last 5: 2 units, as"
        " exposure=7,detector=1 (all 3 are skipped); exposure=8,detector=1 (all 3 are skipped)",
    )


def test_a_plug_in_that_needs_no_calibrations_chooses_from_any_source(small_world: World, install: Install) -> None:
    install()
    small_world.add_raw("raw_bias", [1, 2], [1])
    small_world.add_raw("raw_science", [7], [1])
    (stage,) = small_world.plan(make_campaign(science(type="raw_bias", source={}))).stages
    assert list(stage.inputs(stage.jobs[0]))[1].rule == "last raw or manual: of 2"


def test_a_plug_in_says_which_dimensions_it_leaves_to_time(small_world: World, install: Install) -> None:
    install(LAST.replace('word = "last"', "over_time = frozenset()"))
    small_world.add_raw("raw_science", [7, 8], [1])
    small_world.add_calibration("of_7.fits", detector=1, exposure=7)
    small_world.add_calibration("x_of_8.fits", detector=1, exposure=8)
    (stage,) = small_world.plan(make_campaign(science())).stages
    assert [job.choices[1].files[0].name for job in stage.jobs] == ["of_7.fits", "x_of_8.fits"]


def test_a_lookup_is_found_once_a_stage(small_world: World, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    small_world.add_raw("raw_science", range(300), [1])
    small_world.add_calibration("a.fits", detector=1)
    loaded: list[str] = []
    load = plugins.load

    def counted(group: str, name: str, *, what: str, remedy: str) -> Any:
        loaded.append(name)
        return load(group, name, what=what, remedy=remedy)

    monkeypatch.setattr(plugins, "load", counted)
    (stage,) = small_world.plan(make_campaign(science())).stages
    assert (len(stage.jobs), loaded) == (300, ["last"])


def test_options_of_any_kind_and_name_are_kept_with_the_campaign(
    tmp_path: Path, small_world: World, install: Install
) -> None:
    more = "skip: int = 0\n    limit: float = float('inf')\n    options: tuple[str, ...] = ('a',)"
    install(LAST.replace("skip: int = 0", more))
    filled(small_world)
    campaign = load_campaign(write_campaign(tmp_path, CHOSEN))
    small_world.seal(campaign, "science")
    with small_world.database.reading() as session:
        stored = Campaign.model_validate(session.scalars(select(CampaignRow.definition)).one())
    setting = stored.pipeline.stages[0].inputs["bias"].lookup
    assert isinstance(setting, LookupSetting)
    assert setting.options == {"skip": 0, "limit": "Infinity", "options": ["a"]}
    assert vars(bind(setting).options) == {"skip": 0, "limit": float("inf"), "options": ("a",)}
    assert stored == campaign


def test_options_are_checked_where_the_pipeline_is_read(tmp_path: Path, install: Install) -> None:
    install()

    def load(lookup: str, *settings: str) -> LookupSetting | None:
        path = write_campaign(tmp_path, f"overrides: {{stages: {{science: {{inputs: {{bias: {{{lookup}}}}}}}}}}}\n")
        found = load_campaign(path, settings).pipeline.stages[0].inputs["bias"].lookup
        assert not isinstance(found, tuple)
        return found

    def refused(lookup: str, *settings: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(lookup, *settings)
        return str(caught.value).replace(f"{tmp_path}/", "")

    key = "stages.science.inputs.bias.lookup"
    setting = f"pipeline.{key}.max_days=3"
    replaced = load("lookup: {strategy: last}")
    assert replaced is not None
    assert (replaced.strategy, replaced.options) == ("last", {"skip": 0})  # max_days is of the lookup that it replaces
    assert (
        refused("lookup: {strategy: last, skp: 1}") == f"campaign.yaml:4: unknown key {key}.skp (did you mean 'skip'?)"
    )
    assert refused("lookup: {strategy: last}", setting) == (
        f"--set {setting}: unknown key {key}.max_days; known here: skip"
    )
    assert refused("lookup: {strategy: last, skip: none}") == (
        f"campaign.yaml:4: {key}.skip is 'none' and should be a whole number"
    )


# ----------------------------------------------------------------------------------------- broken plug-ins


@pytest.mark.parametrize(
    ("choose", "told"),
    [
        (
            "return 1 // 0 or Found()",
            "failed with ZeroDivisionError: integer division or modulo by zero (lastlookup.py:18)",
        ),
        ("return None", "answers with a NoneType and should with a Found"),
        ("return Found(unit.files, 'own')", "answers with raw_science_000007_01.fits, which is not among its candid"),
        ("return Found((shelf.candidates[0],), 'all')", "which is not among its candidates"),
        ("return Found(shelf.files[:1] * 2, 'twice')", "answers with a file twice"),
        ("raise SystemError('no sky')", "failed with SystemError: no sky (lastlookup.py:18)"),
        ("return Found(3)", "answers with a int and should with a tuple of files"),
    ],
)
def test_what_a_lookup_may_not_do_is_a_problem_that_names_it(
    small_world: World, install: Install, choose: str, told: str
) -> None:
    install(LAST.split("        left =", maxsplit=1)[0] + f"        {choose}\n")
    filled(small_world)
    problem, *others = small_world.plan(make_campaign(science())).problems
    assert problem.startswith(f"{TOPIC}lookup 'last' of lastlookup 1.0 ")
    assert told in problem
    if others:  # each unit is told of a file of its own
        assert problem.endswith(f"; {BLAME}: unit exposure=7,detector=1")
    else:
        assert problem.endswith(f"; {BLAME}: 2 units, as exposure=7,detector=1; exposure=8,detector=1")
    with pytest.raises(PlanRefused, match="lookup 'last' of lastlookup"):
        small_world.seal(make_campaign(science()), "science")
    assert rows(small_world, "science") == (0, 0)


@pytest.mark.parametrize(
    ("code", "offers", "told"),
    [
        (
            "import no_such_module",
            {},
            "'last' of lastlookup 1.0 cannot be imported: ModuleNotFoundError: No module name",
        ),
        ("Last = 3 // 0", {}, "cannot be imported: ZeroDivisionError: integer division or modulo by zero; mend that"),
        (LAST, {"last": "Lost"}, "cannot be imported: AttributeError: module 'lastlookup' has no attribute 'Lost'"),
        ("class Last:\n    pass", {}, "is not a lookup with options; its entry point should name a class that is der"),
        (
            LAST.replace("options = Options", "options = dict"),
            {},
            "'last' of lastlookup 1.0 is not a lookup with optio",
        ),
        (LAST.replace("skip: int", "strategy: int"), {}, "'last' of lastlookup 1.0 is not a lookup with options"),
        ("Last = 3", {}, "lookup 'last' of lastlookup 1.0 failed with TypeError: 'int' object is not callable"),
        (LAST.replace('name = "last"', 'name = "lst"'), {}, "'last' of lastlookup 1.0 calls itself 'lst'; its entry"),
        (LAST.replace('return f"but', 'return 1 // 0 * f"but'), {}, "failed with ZeroDivisionError"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_refused_with_its_package(
    tmp_path: Path, small_world: World, install: Install, code: str, offers: dict[str, str], told: str
) -> None:
    install(code, offers=offers)
    filled(small_world)
    (problem,) = small_world.plan(make_campaign(science())).problems
    assert problem.startswith(TOPIC)
    assert told in problem
    if "1 // 0" not in code:
        path = write_campaign(
            tmp_path, "overrides: {stages: {science: {inputs: {bias: {lookup: {strategy: last}}}}}}\n"
        )
        with pytest.raises(ConfigError) as caught:
            load_campaign(path)
        assert str(caught.value).startswith(f"{path}:4: stages.science.inputs.bias.lookup.strategy: ")
        assert told in str(caught.value)


def test_one_name_in_two_packages_is_refused_until_one_is_gone(
    tmp_path: Path, small_world: World, install: Install
) -> None:
    install()
    other = install(package="otherlookup")
    filled(small_world)
    told = "lookup 'last' is offered by lastlookup 1.0 and by otherlookup 1.0; uninstall all of them but one"
    assert small_world.plan(make_campaign(science())).problems == (f"{TOPIC}{told}",)
    assert small_world.plan(make_campaign(SCIENCE)).problems == ()
    path = write_campaign(tmp_path, CHOSEN)
    with pytest.raises(ConfigError, match=told):
        load_campaign(path)
    sys.path.remove(str(other))
    assert small_world.plan(make_campaign(science())).problems == ()


def test_a_plug_in_that_is_gone_when_a_later_stage_is_planned(small_world: World, install: Install) -> None:
    folder = install()
    small_world.add_raw("raw_bias", [1, 2], [1])
    small_world.add_raw("raw_science", [7], [1])
    campaign = make_campaign(BIAS, science(source={"stage": "bias"}))
    assert small_world.plan(campaign).problems == ()
    small_world.seal(campaign, "bias")
    for order in small_world.issue("bias"):
        small_world.end(order)
    sys.path.remove(str(folder))
    shutil.rmtree(folder)
    with small_world.database.reading() as session:
        stored = Campaign.model_validate(session.scalars(select(CampaignRow.definition)).one())
    assert stored == campaign
    with pytest.raises(PlanRefused) as caught:
        small_world.seal(stored, "science")
    assert caught.value.problems == (
        f"{TOPIC}no lookup named 'last' (did you mean 'list'?); install the package that offers it;"
        " there is after, before, best, bracket, list, nearest, valid",
    )
    assert rows(small_world, "science") == (0, 0)


def test_another_release_of_a_plug_in_that_takes_other_options(small_world: World, install: Install) -> None:
    install(LAST.replace("skip", "leave"))
    filled(small_world)
    assert small_world.plan(make_campaign(science())).problems == (
        f"{TOPIC}unknown key lookup.skip; known here: leave",
    )


def rows(world: World, stage: str) -> tuple[int, int]:
    """Return how many plans and jobs of a stage stand in the database."""
    with world.database.reading() as session:
        plans = session.scalar(select(func.count()).select_from(PlanRow).where(PlanRow.stage == stage))
        jobs = session.scalar(select(func.count()).select_from(JobRow).where(JobRow.stage == stage))
    return plans or 0, jobs or 0


# --------------------------------------------------------------------------------- what the last release wrote


@pytest.mark.parametrize(
    ("override", "stored", "digest"),
    [
        ("", {"strategy": "nearest", "max_days": 30.0, "files": []}, "048c6e9e637e6ded2c7b4b05b6a6c18e"),
        (
            "lookup: {strategy: valid}",
            {"strategy": "valid", "max_days": 30.0, "files": []},
            "b6edd1c898f50a9fdf32c0dd30a92fde",
        ),
        (
            "lookup: {strategy: list, files: [a.fits, b.fits]}",
            {"strategy": "list", "max_days": 30.0, "files": ["a.fits", "b.fits"]},
            "0029d913e1a0be8785a925b52dad87b6",
        ),
    ],
)
def test_definitions_and_digests_are_those_of_version_0_2(
    tmp_path: Path, override: str, stored: dict[str, Any], digest: str
) -> None:
    more = f"overrides: {{stages: {{science: {{inputs: {{bias: {{{override}}}}}}}}}}}\n" if override else ""
    campaign = load_campaign(write_campaign(tmp_path, more))
    stage = campaign.pipeline.stages[0].model_dump(mode="json")
    assert stage["inputs"]["bias"]["lookup"] == stored
    assert sha256(canonical_json(stage).encode()).hexdigest().startswith(digest)
    assert Campaign.model_validate_json(campaign.model_dump_json()) == campaign
