from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.errors import ConfigError
from nightmill.model.campaign import ExecutionSettings
from nightmill.model.pipeline import LookupSetting
from tests.config.documents import CAMPAIGN, PIPELINE, refusals, write

MAX_DAYS = "pipeline.stages.science.inputs.bias.lookup.max_days"
OVERRIDE = """\
parameters: {sigma: 5}
execution: {threads: 2}
overrides:
  stages:
    science:
      inputs:
        bias:
          source: {calibrations: [ccd]}
          lookup: {strategy: nearest, max_days: 30}
      steps:
        - name: detect
          wall_seconds: 60
"""


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    write(tmp_path, "pipeline.yaml", PIPELINE)
    return write(tmp_path, "campaign.yaml", CAMPAIGN + OVERRIDE)


def test_a_campaign_without_changes_is_its_pipeline(tmp_path: Path) -> None:
    write(tmp_path, "pipeline.yaml", PIPELINE)
    found = load_campaign(write(tmp_path, "campaign.yaml", CAMPAIGN))
    assert (found.name, found.where, found.execution) == ("night-1", "night == 20260110", ExecutionSettings())
    assert found.parameters == found.pipeline.parameters == {"sigma": 3.0, "passes": 2, "clean": True, "mode": "fast"}
    assert found.pipeline.directory == str(tmp_path)


@pytest.mark.req("B13")
def test_layers_override_inputs_and_each_value_keeps_its_layer(campaign: Path) -> None:
    found = load_campaign(campaign, [f"{MAX_DAYS}=3", "parameters.passes=7", "execution.threads=1"])
    bias = found.pipeline.stage("science").inputs["bias"]
    assert (bias.source.stage, bias.source.calibrations) == ("", ("ccd",))
    assert isinstance(bias.lookup, LookupSetting)
    assert (bias.lookup.strategy, bias.lookup.options) == ("nearest", {"max_days": 3.0, "files": []})
    assert found.pipeline.stage("science").steps[1].wall_seconds == 60
    assert found.parameters == {"sigma": 5.0, "passes": 7, "clean": True, "mode": "fast"}
    assert type(found.parameters["sigma"]) is float
    assert found.execution.threads == 1
    origins = {key: str(layer).replace(str(campaign.parent) + "/", "") for key, layer in found.origins.items()}
    assert origins[MAX_DAYS] == origins["parameters.passes"] == origins["execution.threads"] == "command line"
    assert origins[MAX_DAYS.replace("max_days", "strategy")] == "campaign (campaign.yaml:12)"
    assert origins["pipeline.stages.science.inputs.bias.source.calibrations"] == "campaign (campaign.yaml:11)"
    assert origins["pipeline.stages.science.steps.detect.wall_seconds"] == "campaign (campaign.yaml:15)"
    assert origins["parameters.sigma"] == "campaign (campaign.yaml:4)"
    assert origins["parameters.mode"] == "pipeline (pipeline.yaml:3)"
    assert origins["pipeline.stages.science.inputs.bias.type"] == "pipeline (pipeline.yaml:19)"
    assert "pipeline.stages.science.inputs.bias.source.stage" not in origins


def test_no_layer_changes_the_documents(campaign: Path) -> None:
    before = {path: path.read_bytes() for path in campaign.parent.iterdir()}
    load_campaign(campaign, ["parameters.passes=7"])
    assert {path: path.read_bytes() for path in campaign.parent.iterdir()} == before
    assert load_campaign(campaign).parameters["passes"] == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("where=night == 20260111 and detector in [1, 2]", "night == 20260111 and detector in [1, 2]"),
        ("where=", None),
        ("description=a: b", None),
        ("campaign=night-2", "night-2"),
    ],
)
def test_settings_are_yaml(campaign: Path, setting: str, value: str | None) -> None:
    if value is None:
        assert refusals(load_campaign, campaign, [setting])[0].startswith(f"--set {setting}: ")
    else:
        found = load_campaign(campaign, [setting])
        assert value in (found.where, found.name)


def test_the_last_of_two_settings_counts(campaign: Path) -> None:
    assert load_campaign(campaign, ["parameters.passes=7", "parameters.passes=8"]).parameters["passes"] == 8


def test_a_list_is_replaced_whole(campaign: Path) -> None:
    setting = 'pipeline.stages.science.steps.reduce.argv=[cp, "{inputs.frame}", "{inputs.bias}", "{outputs.image}"]'
    assert load_campaign(campaign, [setting]).pipeline.stage("science").steps[0].argv[0] == "cp"


def test_a_new_input_says_its_type(campaign: Path) -> None:
    role = "pipeline.stages.science.inputs.sky"
    found = load_campaign(campaign, [f"{role}={{type: raw_sky, min: 0}}"])
    assert found.pipeline.stage("science").inputs["sky"].type == "raw_sky"
    assert refusals(load_campaign, campaign, [f"{role}.min=0"]) == [
        f"--set {role}.min=0: the pipeline has no input 'sky' to override"
    ]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("parameters.sgima=1", "the pipeline has no parameter 'sgima' (did you mean 'sigma'?)"),
        ("parameters.zoom=1", "the pipeline has no parameter 'zoom' (it has sigma, passes, clean, mode)"),
        ("parameters.sigma=high", "parameters.sigma is 'high' and should be a number, as its default 3.0 is"),
        ("parameters.sigma=true", "parameters.sigma is true and should be a number, as its default 3.0 is"),
        ("parameters.passes=2.5", "parameters.passes is 2.5 and should be a whole number, as its default 2 is"),
        ("parameters.clean=1", "parameters.clean is 1 and should be a boolean, as its default true is"),
        ("parameters.mode=3", "parameters.mode is 3 and should be a text, as its default 'fast' is"),
        ("parameters.sigma=.nan", "the value '.nan' cannot be read: the value is .nan, not a finite number"),
        ("parameters=3", "parameters is 3 and should be a mapping"),
        ("execution.thread=1", "unknown key execution.thread (did you mean 'threads'?)"),
        ("execution.threads=-1", "execution.threads is -1 and should be greater than or equal to 0"),
        ("execution.engin=threads", "unknown key execution.engin (did you mean 'engine'?)"),
        ("execution.engines={scince: workers}", "has no stage 'scince' to give an engine to (did you mean 'science'?)"),
        ("execution.threads=many", "execution.threads is 'many' and should be a whole number"),
        ("execution.jobs_per_slice=5000", "execution.jobs_per_slice is 5000 and should be less than or equal to 1000"),
        ("prameters.sigma=1", "unknown key prameters (did you mean 'parameters'?)"),
        ("campaign=a/b", "campaign name 'a/b' should have letters, digits and . _ + - alone"),
        (
            "pipeline.stages.sience.per=[band]",
            "the pipeline has no stage 'sience' to override (did you mean 'science'?)",
        ),
        ("pipeline.stages.science.inputs.bais.min=0", "has no input 'bais' to override (did you mean 'bias'?)"),
        (
            "pipeline.stages.science.steps.detct.wall_seconds=9",
            "has no step 'detct' to override (did you mean 'detect'?)",
        ),
        ("pipeline.stages.science.steps.detect.outputs.cat.to=none", "has no output 'cat' to override"),
        (
            "pipeline.parameters.sigma=3",
            "overrides.parameters cannot be set; set it under 'parameters' of the campaign",
        ),
        ("pipeline.version=2", "overrides.version cannot be set"),
        (f"{MAX_DAYS}=soon", "stages.science.inputs.bias.lookup.max_days is 'soon' and should be a number"),
        (
            "pipeline.stages.science.inputs.bias.lookup.strategy=nearst",
            "lookup.strategy is 'nearst' and should be 'after', 'before', 'best', 'bracket', 'list',"
            " 'nearest' or 'valid' (did you mean 'nearest'?)",
        ),
        ("pipeline.stages.science.inputs.frame=3", "stages.science.inputs.frame is 3 and should be a mapping"),
        ("pipeline.stages.science.inputs=frame", "stages.science.inputs is 'frame' and should be a mapping"),
        ("where=[a", "the value '[a' cannot be read: it is not YAML: while parsing a flow sequence"),
    ],
)
def test_refused_setting_is_named(campaign: Path, setting: str, expected: str) -> None:
    found = refusals(load_campaign, campaign, [setting])
    assert len(found) == 1, found
    assert found[0].startswith(f"--set {setting}: ")
    assert expected in found[0]


@pytest.mark.parametrize("setting", ["parameters.sigma", "=3", "a..b=3", ".a=3"])
def test_what_is_no_setting(campaign: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=r"is not KEY=VALUE; write parameters\.sigma=3"):
        load_campaign(campaign, [setting])


def test_problems_of_all_layers_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, "pipeline.yaml", PIPELINE.replace("{parameters.sigma}", "{parameters.sgima}"))
    text = CAMPAIGN.replace("night-1", "night/1") + OVERRIDE.replace("{sigma: 5}", "{zoom: 5}")
    path = write(tmp_path, "campaign.yaml", text)
    found = refusals(load_campaign, path, ["pipeline.stages.science.steps.reduce.wall_seconds=-1"])
    assert [problem.split(": ")[0] for problem in found] == [
        "campaign.yaml:1",
        "campaign.yaml:4",
        "pipeline.yaml:11",
        "--set pipeline.stages.science.steps.reduce.wall_seconds=-1",
    ]


def test_missing_keys_and_documents(tmp_path: Path) -> None:
    path = write(tmp_path, "campaign.yaml", "campaign: x\n")
    assert refusals(load_campaign, path) == ["campaign.yaml:1: pipeline is missing"]
    path = write(tmp_path, "campaign.yaml", "campaign: x\npipeline: pipelines.yaml\n")
    [problem] = refusals(load_campaign, path)
    assert problem.startswith("campaign.yaml:2: ")
    assert "pipelines.yaml is not there; the folder has: campaign.yaml" in problem
