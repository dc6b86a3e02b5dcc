"""What goes over and under a pipeline: a site's defaults, an operator's file, all stages at once, some units alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.campaign import Written, load_campaign
from nightmill.config.document import parse_document
from nightmill.config.explain import explain
from nightmill.config.layers import SITE, Tree, tree_of
from nightmill.errors import ConfigError, RequestRefused
from nightmill.model.campaign import Home, Hosts
from nightmill.model.fate import Fate
from nightmill.model.pipeline import Input
from nightmill.model.retries import FateRetry, retry_after
from tests.config.documents import CAMPAIGN, PIPELINE, refusals, write

FIX = """\
why: the bias of the 9th has light
parameters: {sigma: 4}
inputs:
  bias: {where: "night == 20260108", why: light in the later ones}
"""
CALIBRATED = PIPELINE.replace(
    "source: {stage: bias}",
    "source: {calibrations: [ccd, old]}, lookup: [{strategy: nearest}, "
    "{strategy: nearest, source: {calibrations: [ccd]}}]",
)


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    write(tmp_path, "pipeline.yaml", PIPELINE)
    return write(tmp_path, "campaign.yaml", CAMPAIGN + "parameters: {sigma: 3.5, passes: 1}\n")


def defaults(text: str) -> Tree:
    """Return what a site sets, as its nightmill.yaml has it."""
    return tree_of(parse_document(text.encode(), "nightmill.yaml"), SITE).below("defaults")


def bias(path: Path, *settings: str, overrides: list[Path] | None = None) -> Input:
    return load_campaign(path, settings, overrides=overrides or []).pipeline.stage("science").inputs["bias"]


@pytest.mark.req("B13", "REQ-0007")
def test_each_layer_goes_over_those_below_it(campaign: Path, tmp_path: Path) -> None:
    fix = write(tmp_path, "fix.yaml", FIX + "execution: {threads: 5}\n")
    second = write(tmp_path, "second.yaml", "why: two\nparameters: {passes: 5}\n")
    site = defaults(
        "defaults: {execution: {threads: 2, jobs_per_slice: 9}, stage: {retries: 2, resources: {cores: 4}},"
        " step: {wall_seconds: 60, environment: {OMP_NUM_THREADS: '1'}}}"
    )
    found = load_campaign(campaign, ["parameters.passes=7"], overrides=[fix, second], defaults=site)
    assert found.parameters == {"sigma": 4.0, "passes": 7, "clean": True, "mode": "fast"}
    assert (found.execution.threads, found.execution.jobs_per_slice, found.execution.jobs_per_task) == (5, 9, 0)
    assert {stage.name: (stage.retries, stage.resources.cores) for stage in found.pipeline.stages} == {
        "bias": (2, 4),
        "science": (2, 4),
    }
    assert [step.name for step in found.pipeline.stage("science").steps] == ["reduce", "detect"]
    assert {step.wall_seconds for stage in found.pipeline.stages for step in stage.steps} == {60.0}
    layers = {key: layer.name for key, layer in found.origins.items()}
    assert layers["parameters.sigma"] == layers["execution.threads"] == "override"
    assert layers["execution.jobs_per_slice"] == layers["pipeline.stages.bias.retries"] == "site"
    assert (layers["parameters.passes"], layers["parameters.mode"]) == ("command line", "pipeline")
    assert str(found.origins["parameters.sigma"]) == f"override ({fix}:2)"


def test_a_site_says_whether_campaigns_are_audited(campaign: Path) -> None:
    site = defaults("defaults: {execution: {level: audit}}")
    assert load_campaign(campaign).execution.level == "standard"
    assert load_campaign(campaign, defaults=site).execution.level == "audit"
    found = load_campaign(campaign, ["execution.level=standard"], defaults=site)
    assert (found.execution.level, found.origins["execution.level"].name) == ("standard", "command line")


@pytest.mark.req("REQ-0007", "REQ-0024", "REQ-0025")
def test_hosts_to_use_and_to_avoid_come_from_any_layer(campaign: Path, tmp_path: Path) -> None:
    site = defaults("defaults: {execution: {jobs: 50, hosts: {avoid: ['old*'], use: ['node*']}}}")
    assert load_campaign(campaign, defaults=site).execution.hosts == Hosts(use=("node*",), avoid=("old*",))
    fix = write(tmp_path, "fix.yaml", "why: two disks fail\nexecution: {hosts: {avoid: [node3, node4]}}\n")
    found = load_campaign(campaign, ["execution.hosts.use=[node3, node5]"], overrides=[fix], defaults=site)
    assert found.execution.jobs == 50
    assert found.execution.hosts == Hosts(use=("node3", "node5"), avoid=("node3", "node4"))
    assert [found.execution.hosts.bar(host) for host in ("node3", "node5.hall", "node6")] == [
        "host node3 is to be avoided (node3)",
        "",
        "host node6 is not among those to use (node3, node5)",
    ]
    with pytest.raises(ConfigError, match=r"unknown key execution\.hosts\.shun"):
        load_campaign(campaign, ["execution.hosts.shun=[node3]"])


def test_what_layers_say_of_retries_by_fate_comes_together(campaign: Path, tmp_path: Path) -> None:
    site = defaults("defaults: {stage: {retries: {lost: {tries: 2}, store_error: {tries: 3, wait_seconds: 30}}}}")
    setting = "pipeline.stages.science.retries={store_error: {tries: 1}}"
    found = load_campaign(campaign, [setting], defaults=site).pipeline
    assert retry_after(found.stage("bias").retries, Fate.STORE_ERROR) == (
        "store_error",
        FateRetry(tries=3, wait_seconds=30),
    )
    science = found.stage("science").retries
    assert retry_after(science, Fate.STORE_ERROR) == ("store_error", FateRetry(tries=1, wait_seconds=30))
    assert retry_after(science, Fate.LOST) == ("lost", FateRetry(tries=2))
    assert retry_after(science, Fate.BAD_OUTPUT) is None
    number = load_campaign(campaign, ["pipeline.stages.science.retries=1"], defaults=site).pipeline.stage("science")
    assert number.retries == 1


def test_the_home_of_outputs_is_layered_as_other_keys(campaign: Path) -> None:
    site = defaults("defaults: {home: {site: ncsa, types: [science]}}")
    found = load_campaign(campaign, ["home.site=in2p3"], defaults=site)
    assert found.home == Home(site="in2p3", types=("science",))
    assert [found.origins[key].name for key in ("home.site", "home.types")] == ["command line", "site"]


def test_an_operators_file_says_why_and_nothing_unknown(campaign: Path, tmp_path: Path) -> None:
    def refused(text: str) -> list[str]:
        fix = write(tmp_path, "fix.yaml", text)
        return refusals(lambda path: load_campaign(path, overrides=[fix]), campaign)

    assert refused("parameters: {sigma: 4}\n") == ["fix.yaml:1: why is missing"]
    assert refused("why: ' '\n") == ["fix.yaml:1: why is empty; say why the campaign is changed"]
    assert refused("why: x\nparamters: {}\n") == ["fix.yaml:2: unknown key paramters (did you mean 'parameters'?)"]
    assert refused("why: x\nparameters: {sgma: 4}\n") == [
        "fix.yaml:2: the pipeline has no parameter 'sgma' (did you mean 'sigma'?)"
    ]
    assert refused("why: x\ncampaign: other\n") == [
        "fix.yaml:2: unknown key campaign; known here: parameters, calibrations, inputs, overrides, where, execution,"
        " home, exclude, breakpoints, units, why"
    ]


@pytest.mark.req("B13")
def test_one_line_changes_an_input_wherever_it_is_with_its_reason(campaign: Path, tmp_path: Path) -> None:
    fix = write(tmp_path, "fix.yaml", FIX)
    assert bias(campaign, overrides=[fix]).model_dump(include={"where", "why"}) == {
        "where": "night == 20260108",
        "why": "light in the later ones",
    }
    assert bias(campaign, "inputs.bias={where: night == 20260107, why: clouds}").why == "clouds"
    # Who changes it again has a reason of his own, or none.
    again = bias(campaign, "inputs.bias.where=night == 20260106", overrides=[fix])
    assert (again.where, again.why) == ("night == 20260106", "")
    # What is said of a stage's input counts more than what is said of all, in one layer.
    both = write(tmp_path, "both.yaml", FIX + "overrides: {stages: {science: {inputs: {bias: {where: run == 'a'}}}}}\n")
    assert bias(campaign, overrides=[both]).where == "run == 'a'"
    assert refusals(load_campaign, campaign, ["inputs.bais.min=2"]) == [
        "--set inputs.bais.min=2: no stage has an input 'bais' (did you mean 'bias'?)"
    ]


@pytest.mark.req("B15")
def test_another_calibration_set_is_one_flag(tmp_path: Path) -> None:
    write(tmp_path, "pipeline.yaml", CALIBRATED)
    campaign = write(tmp_path, "campaign.yaml", CAMPAIGN)
    found = bias(campaign, "calibrations.ccd=[ccd-2026b, spare]")
    assert [way.source.calibrations for way in found.ways] == [("ccd-2026b", "spare", "old"), ("ccd-2026b", "spare")]
    assert bias(campaign, "calibrations.old=ccd-2026b").source.calibrations == ("ccd", "ccd-2026b")
    origins = load_campaign(campaign, ["calibrations.ccd=b"]).origins
    assert origins["pipeline.stages.science.inputs.bias.source.calibrations"].name == "command line"
    key = "pipeline.stages.science.inputs.bias.source.calibrations"
    said = explain(Written(campaign, ["calibrations.ccd=b"]), key)
    assert [(each.value, each.layer.partition(" (")[0]) for each in said] == [
        (["ccd", "old"], "pipeline"),
        (["b", "old"], "command line"),
    ]
    odd = write(
        tmp_path,
        "odd.yaml",
        "why: x\noverrides: {stages: {science: {inputs: {bias: {source: {calibrations: [[a], ccd]}}}}}}\n",
    )
    told = refusals(lambda path: load_campaign(path, ["calibrations.ccd=b"], overrides=[odd]), campaign)
    assert "calibrations[0] is a list and should be a text" in told[0]
    assert refusals(load_campaign, campaign, ["calibrations.cdd=b"]) == [
        "--set calibrations.cdd=b: no input takes from calibration set 'cdd' (did you mean 'ccd'?)"
    ]


UNITS = """\
units:
  exposure=12: {parameters: {sigma: 9}, why: a bright star}
  exposure=12,detector=2:
    inputs: {bias: {where: "run == 'b'"}}
    overrides:
      stages:
        science:
          steps:
            - name: reduce
              wall_seconds: 10
"""


@pytest.mark.req("REQ-0007")
def test_units_have_values_of_their_own_the_narrower_over_the_wider(campaign: Path) -> None:
    campaign.write_text(campaign.read_text() + UNITS)
    found = load_campaign(campaign, ["parameters.passes=8", 'units."exposure=12,detector=2".parameters.mode=slow'])
    wide, narrow = found.variants
    assert (wide.units, wide.why, dict(wide.stages)) == ("exposure=12", "a bright star", {})
    assert dict(wide.parameters) == {"sigma": 9.0, "passes": 8, "clean": True, "mode": "fast"}
    assert {key: str(layer) for key, layer in wide.origins.items()} == {"parameters.sigma": f"campaign ({campaign}:6)"}
    assert dict(narrow.parameters) == {"sigma": 9.0, "passes": 8, "clean": True, "mode": "slow"}
    assert narrow.stages["science"].inputs["bias"].where == "run == 'b'"
    assert [step.wall_seconds for step in narrow.stages["science"].steps] == [10.0, 3600.0]
    assert found.pipeline == load_campaign(campaign).pipeline
    # What a higher layer says of all units goes over what a lower one says of some.
    assert [each.parameters["sigma"] for each in load_campaign(campaign, ["parameters.sigma=5"]).variants] == [5.0, 5.0]


def test_a_campaign_without_units_of_its_own_is_written_as_before(campaign: Path) -> None:
    assert "variants" not in load_campaign(campaign).model_dump()


@pytest.mark.parametrize(
    ("units", "told"),
    [
        ("night: {parameters: {sigma: 9}}", "units.'night' are not units; write exposure=12"),
        ("exposure=: {parameters: {sigma: 9}}", "units.'exposure=' are not units; write exposure=12"),
        ("exposure=1: {parameters: {sgma: 9}}", "the pipeline has no parameter 'sgma' (did you mean 'sigma'?)"),
        ("exposure=1: {threads: 3}", "unknown key units.exposure=1.threads"),
        ("exposure=1: {inputs: {frame: {min: 2}}}", "inputs.frame.min of stage 'science' is the same for all units"),
        (
            "exposure=1: {overrides: {stages: {science: {resources: {cores: 2}}}}}",
            "resources.cores of stage 'science' is the same for all units",
        ),
        (
            "exposure=1: {overrides: {stages: {science: {steps: {detect: {outputs: {catalog: {type: c}}}}}}}}",
            "steps.detect.outputs of stage 'science' is the same for all units",
        ),
    ],
)
def test_what_cannot_differ_from_unit_to_unit_is_refused(campaign: Path, units: str, told: str) -> None:
    campaign.write_text(campaign.read_text() + f"units:\n  {units}\n")
    [refused] = refusals(load_campaign, campaign)
    assert refused.startswith("campaign.yaml:6: ")
    assert told in refused


@pytest.mark.req("B13")
def test_every_layer_that_speaks_of_a_value_is_told(campaign: Path, tmp_path: Path) -> None:
    fix = write(tmp_path, "fix.yaml", FIX)
    site = defaults("defaults:\n  stage:\n    retries: 2\n")
    written = Written(campaign, ["parameters.sigma=7"], overrides=[fix], defaults=site)

    def chain(key: str) -> list[tuple[object, str, bool]]:
        return [(each.value, each.layer.replace(f"{tmp_path}/", ""), each.counts) for each in explain(written, key)]

    assert chain("parameters.sigma") == [
        (3.0, "pipeline (pipeline.yaml:3)", False),
        (3.5, "campaign (campaign.yaml:4)", False),
        (4, "override (fix.yaml:2)", False),
        (7.0, "command line", True),
    ]
    assert chain("pipeline.stages.science.retries") == [(2, "site (nightmill.yaml:3)", True)]
    assert chain("execution.threads") == [(0, "default", True)]
    below = explain(written, "pipeline.stages.science.inputs.bias")
    told = {each.key.rpartition(".")[2]: each.layer.partition(" ")[0] for each in below if each.counts}
    assert [told[key] for key in ("type", "where", "why", "min")] == ["pipeline", "override", "override", "default"]
    with pytest.raises(RequestRefused) as refused:
        explain(written, "pipeline.stages.scince.retries")
    assert str(refused.value) == (
        "the campaign has no key 'pipeline.stages.scince.retries' (did you mean 'science'?); write it as --set does"
    )


def test_settings_that_are_not_key_and_value_are_refused(campaign: Path) -> None:
    for setting in ("parameters.sigma", "=3", ".sigma=3", 'units."exposure=12.parameters.sigma=3', "a..b=1"):
        with pytest.raises(ConfigError) as refused:
            load_campaign(campaign, [setting])
        assert str(refused.value).startswith(f"--set: {setting!r} is not KEY=VALUE") or "--set" in str(refused.value)
