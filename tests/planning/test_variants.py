"""Units that are planned, sealed and carried out otherwise than the rest of their stage."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.errors import PlanRefused
from nightmill.planning.again import issued_order
from tests.planning.world import NIGHT, PIPELINE_YAML, World, write_campaign

PIPELINE = PIPELINE_YAML.replace('version: "1.0"\n', 'version: "1.0"\nparameters: {sigma: 3.0}\n').replace(
    "argv: [reduce,", 'argv: [reduce, "--sigma={parameters.sigma}",'
)


def campaign_path(folder: Path, units: str) -> Path:
    path = write_campaign(folder, f"units:\n{units}")
    (folder / "pipeline.yaml").write_text(PIPELINE)
    return path


@pytest.fixture
def observed(world: World) -> World:
    """Give an observatory with three exposures of two detectors, and two biases of each."""
    world.add_raw("raw_science", [0, 1, 2], [1, 2])
    for detector in (1, 2):
        world.add_calibration(f"near{detector}.fits", detector=detector, at=NIGHT)
        world.add_calibration(f"far{detector}.fits", detector=detector, at=NIGHT - timedelta(days=3))
    return world


@pytest.mark.req("REQ-0007", "B13")
def test_units_read_what_is_said_of_them_and_their_orders_say_so(observed: World, tmp_path: Path) -> None:
    units = """\
  exposure=1: {parameters: {sigma: 9}, why: a bright star}
  exposure=1,detector=2: {inputs: {bias: {where: "name == 'far2.fits'", why: light in the near one}}}
  detector=7: {parameters: {sigma: 1}}
  exposure=0:
    overrides: {stages: {science: {steps: {reduce: {environment: {DEBUG: "1"}}}}}}
"""
    path = campaign_path(tmp_path, units.replace("  detector=7: {parameters: {sigma: 1}}\n", ""))
    observed.seal(load_campaign(path), "science")
    orders = {order.attempt.unit: order for order in observed.issue("science")}
    told = {
        unit: (order.steps[0].argv[1], [each.name for each in order.inputs if each.role == "bias"])
        for unit, order in orders.items()
    }
    assert told == {
        "exposure=0,detector=1": ("--sigma=3.0", ["near1.fits"]),
        "exposure=0,detector=2": ("--sigma=3.0", ["near2.fits"]),
        "exposure=1,detector=1": ("--sigma=9.0", ["near1.fits"]),
        "exposure=1,detector=2": ("--sigma=9.0", ["far2.fits"]),
        "exposure=2,detector=1": ("--sigma=3.0", ["near1.fits"]),
        "exposure=2,detector=2": ("--sigma=3.0", ["near2.fits"]),
    }
    assert orders["exposure=0,detector=2"].steps[0].environment["DEBUG"] == "1"
    assert "DEBUG" not in orders["exposure=2,detector=2"].steps[0].environment
    assert dict(orders["exposure=1,detector=1"].parameters) == {"sigma": 9.0}
    [rule] = [each.rule for each in orders["exposure=1,detector=2"].inputs if each.role == "bias"]
    assert rule.endswith("; light in the near one")
    # The same order is had again from what was sealed.
    with observed.database.reading() as session:
        again = issued_order(session, "night1", "science", "exposure=1,detector=2")
    assert again == orders["exposure=1,detector=2"]


def test_what_is_said_of_units_that_there_are_not_is_refused(observed: World, tmp_path: Path) -> None:
    path = campaign_path(tmp_path, "  exposure=9: {parameters: {sigma: 9}}\n  exposre=1: {parameters: {sigma: 9}}\n")
    with pytest.raises(PlanRefused) as refused:
        observed.plan(load_campaign(path)).require()
    assert "units 'exposure=9': no unit of the campaign is of these" in str(refused.value)
    assert "units 'exposre=1': 'exposre' is not a key of any file type (did you mean 'exposure'?)" in str(refused.value)


def test_a_unit_of_which_two_things_are_said_is_refused(observed: World, tmp_path: Path) -> None:
    path = campaign_path(tmp_path, "  exposure=1: {parameters: {sigma: 9}}\n  detector=2: {parameters: {sigma: 8}}\n")
    with pytest.raises(PlanRefused) as refused:
        observed.plan(load_campaign(path)).require()
    assert (
        "it is of units exposure=1 and of units detector=2; say under units what counts for detector=2,exposure=1"
        in str(refused.value)
    )
    path.write_text(path.read_text() + "  detector=2,exposure=1: {parameters: {sigma: 8}}\n")
    observed.plan(load_campaign(path)).require()


def test_an_input_of_some_units_that_cannot_be_filled_is_a_problem_of_theirs(observed: World, tmp_path: Path) -> None:
    path = campaign_path(tmp_path, "  exposure=1: {inputs: {bias: {where: \"name == 'no.fits'\"}}}\n")
    with pytest.raises(PlanRefused) as refused:
        observed.plan(load_campaign(path)).require()
    assert "exposure=1,detector=1" in str(refused.value)
    assert "exposure=2,detector=1" not in str(refused.value)
    path = campaign_path(tmp_path, "  exposure=1: {inputs: {bias: {source: {calibrations: [cdd]}}}}\n")
    with pytest.raises(PlanRefused, match=r"calibration set 'cdd'|did you mean 'ccd'"):
        observed.plan(load_campaign(path)).require()
