from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from nightmill.model.order import JobOrder, canonical, order_sha256
from nightmill.model.store import Store
from nightmill.planning.orders import render
from nightmill.planning.sealed import JobDetail, StageCommon, job_of
from tests.planning.world import BIAS, NIGHT, SCIENCE, file_types, found, make_campaign

FILES = {
    1: found(1, name="raw_7_3.fits", exposure=7, detector=3, instrument="nmcam"),
    2: found(2, name="bias_a.fits", type="master_bias", detector=3),
    3: found(3, name="bias_b.fits", type="master_bias", detector=3),
}
DATA_ID: Mapping[str, str | int] = {"exposure": 7, "detector": 3, "instrument": "nmcam"}


def order_of(
    stage: Mapping[str, Any],
    inputs: Mapping[str, list[int]],
    *,
    attempt: int = 1,
    job: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> JobOrder:
    campaign = make_campaign(stage, parameters=parameters or {})
    common = StageCommon(
        campaign=campaign.name,
        number=12,
        pipeline="ccd",
        pipeline_version="1.0",
        pipeline_dir="/pipelines/ccd",
        parameters=campaign.parameters,
        stage=campaign.pipeline.stages[0],
        stores={name: Store(name=name, url=f"file:///{name}") for name in ("backbone", "tape")},
        file_types=file_types(),
        log_store="backbone",
        rules=("raw or manual", "nearest in set ccd: 0.4 d before", "none found"),
        origins=dict.fromkeys(stage["inputs"], "pipeline (ccd.yaml:3)"),
    )
    detail = JobDetail(
        number=job,
        data_id=DATA_ID,
        begins_at=NIGHT,
        ends_at=NIGHT + timedelta(minutes=1),
        inputs={role: (number, tuple(ids)) for number, (role, ids) in enumerate(inputs.items())},
    )
    return render(common, job_of("exposure=7,detector=3", detail, FILES), attempt, plan_sha256="f" * 64)


def argv_of(*argv: str, bias: list[int], most: int | None = 1, **parameters: str | float | bool) -> tuple[str, ...]:
    """Render one command line of a stage with an optional bias."""
    stage = {
        **SCIENCE,
        "inputs": {"raw": {"type": "raw_science"}, "bias": {"type": "master_bias", "min": 0, "max": most}},
        "steps": [
            {"name": "s", "argv": argv, "inputs": ["raw", "bias"], "outputs": {"image": {"type": "image"}}},
        ],
    }
    return order_of(stage, {"raw": [1], "bias": bias}, parameters=parameters).steps[0].argv


def test_paths_are_relative_to_the_working_folder_and_files_of_earlier_steps_are_found() -> None:
    reduce, detect = order_of(SCIENCE, {"raw": [1], "bias": [2]}).steps
    image, catalog = "nmcam_000007_03_image_c0012a01.fits", "nmcam_000007_03_cat_c0012a01.fits"
    assert reduce.argv == ("{python}", "reduce.py", "--bias=../inputs/bias_a.fits", "../inputs/raw_7_3.fits", image)
    assert detect.argv == ("{python}", "detect.py", f"../outputs/{image}", catalog)
    assert (reduce.inputs, detect.inputs) == (("raw_7_3.fits", "bias_a.fits"), (image,))


def test_an_item_that_is_an_input_becomes_one_item_a_file() -> None:
    argv = argv_of("combine", "{inputs.bias}", "{outputs.image}", bias=[3, 2], most=None)
    assert argv == (
        "combine",
        "../inputs/bias_b.fits",
        "../inputs/bias_a.fits",
        "nmcam_000007_03_image_c0012a01.fits",
    )


@pytest.mark.parametrize("item", ["{inputs.bias}", "--bias={inputs.bias}"])
def test_an_item_with_an_optional_input_that_is_not_there_vanishes(item: str) -> None:
    assert argv_of("reduce", item, "{inputs.raw}", bias=[]) == ("reduce", "../inputs/raw_7_3.fits")


def test_values_are_written_as_yaml_has_them_and_what_is_no_placeholder_stays() -> None:
    argv = argv_of(
        "{parameters.sigma}", "{parameters.fit}", "{unit.detector}x", "{pipeline_dir}/a", "{a}", "{python}",
        bias=[], sigma=3.0, fit=True,
    )  # fmt: skip
    assert argv == ("3.0", "true", "3x", "/pipelines/ccd/a", "{a}", "{python}")


def test_a_parameter_is_data_and_not_a_template() -> None:
    assert argv_of("{parameters.text}", bias=[2], text="{inputs.bias}") == ("{inputs.bias}",)


def test_the_environment_has_its_placeholders_filled() -> None:
    environment = {
        "PYTHONPATH": "{pipeline_dir}/lib",
        "FRAME": "{inputs.raw}",
        "BIAS": "{inputs.bias}",
        "TITLE": "{unit.detector} at {parameters.sigma}",
        "AWK": "{print}",
    }
    step = {"name": "s", "argv": ["reduce"], "inputs": ["raw", "bias"], "outputs": {}, "environment": environment}
    inputs = {"raw": {"type": "raw_science"}, "bias": {"type": "master_bias", "min": 0}}
    order = order_of(
        {**SCIENCE, "inputs": inputs, "steps": [step]}, {"raw": [1], "bias": []}, parameters={"sigma": 2.5}
    )
    assert order.steps[0].environment == {
        "PYTHONPATH": "/pipelines/ccd/lib",
        "FRAME": "../inputs/raw_7_3.fits",
        "TITLE": "3 at 2.5",
        "AWK": "{print}",
    }


def test_a_call_gets_its_arguments_as_json() -> None:
    stage = {
        **SCIENCE,
        "inputs": {
            "raw": {"type": "raw_science"},
            "bias": {"type": "master_bias", "max": None},
            "flat": {"type": "master_flat", "min": 0},
        },
        "steps": [
            {
                "name": "reduce",
                "call": "pipelines.ccd:reduce",
                "arguments": {
                    "raw": "{inputs.raw}",
                    "biases": "{inputs.bias}",
                    "flat": "{inputs.flat}",
                    "sigma": "{parameters.sigma}",
                    "output": "{outputs.image}",
                    "title": "detector {unit.detector}",
                },
                "inputs": ["raw", "bias", "flat"],
                "outputs": {"image": {"type": "image"}},
            }
        ],
    }
    order = order_of(stage, {"raw": [1], "bias": [2], "flat": []}, parameters={"sigma": 2.5})
    *call, arguments = order.steps[0].argv
    assert call == ["{python}", "-m", "nightmill.execution.call", "pipelines.ccd:reduce"]
    assert json.loads(arguments) == {
        "raw": "../inputs/raw_7_3.fits",
        "biases": ["../inputs/bias_a.fits"],
        "flat": None,
        "sigma": 2.5,
        "output": "nmcam_000007_03_image_c0012a01.fits",
        "title": "detector 3",
    }


def names_of(order: JobOrder) -> set[str]:
    return {name for step in order.steps for output in step.outputs for name in output.names}


@pytest.mark.req("B18")
def test_a_second_attempt_has_names_of_its_own() -> None:
    first, second = (order_of(SCIENCE, {"raw": [1], "bias": [2]}, attempt=number) for number in (1, 2))
    assert second.attempt.number == 2
    assert first.inputs == second.inputs
    assert names_of(first).isdisjoint(names_of(second))
    assert (first.log_name, second.log_name) == ("ccd_science_7-3_c0012a01.log", "ccd_science_7-3_c0012a02.log")


@pytest.mark.parametrize(
    ("job", "folder"), [(0, "night1/science"), (999, "night1/science"), (1000, "night1/science/001")]
)
def test_no_folder_of_a_store_gets_more_than_a_thousand_jobs(job: int, folder: str) -> None:
    order = order_of(SCIENCE, {"raw": [1], "bias": [2]}, job=job)
    assert {output.directory for step in order.steps for output in step.outputs} == {folder}
    assert order.log_directory == folder


def test_an_intermediate_file_has_a_name_and_no_place() -> None:
    step = {**SCIENCE["steps"][0], "outputs": {"image": {"type": "image", "to": "none"}}}
    (image,) = order_of({**SCIENCE, "steps": [step]}, {"raw": [1], "bias": [2]}).steps[0].outputs
    assert (image.store, image.directory, image.names) == ("", "", ("nmcam_000007_03_image_c0012a01.fits",))


def test_an_output_of_several_files_has_as_many_names() -> None:
    output = {"type": "cutout", "produces": "cut*.fits", "min": 0, "max": 3}
    steps = [{"name": "cut", "argv": ["cut", "{inputs.raw}"], "inputs": ["raw"], "outputs": {"cuts": output}}]
    stage = {**SCIENCE, "inputs": {"raw": {"type": "raw_science"}}, "steps": steps}
    (cuts,) = order_of(stage, {"raw": [1]}).steps[0].outputs
    assert cuts.names == tuple(f"nmcam_000007_03_cut{n:03d}_c0012a01.fits" for n in (1, 2, 3))
    assert (cuts.produces, cuts.min) == ("cut*.fits", 0)


def test_the_validity_of_a_calibration_is_around_the_unit() -> None:
    stage = {**BIAS, "per": ["exposure", "detector"]}
    (master,) = order_of(stage, {"frames": [1]}).steps[0].outputs
    assert (master.valid_from, master.valid_until) == ("2026-01-09T20:00:00+00:00", "2026-02-09T20:01:00+00:00")


def test_a_file_of_two_roles_is_staged_once() -> None:
    stage = {
        **SCIENCE,
        "inputs": {"raw": {"type": "raw_science"}, "reference": {"type": "raw_science"}},
        "steps": [{"name": "s", "argv": ["s", "{inputs.raw}", "{inputs.reference}"], "inputs": ["raw", "reference"]}],
    }
    order = order_of(stage, {"raw": [1], "reference": [1]})
    assert [(file.role, file.name) for file in order.inputs] == [("raw", "raw_7_3.fits")]
    assert order.steps[0].argv == ("s", "../inputs/raw_7_3.fits", "../inputs/raw_7_3.fits")


def test_an_order_holds_only_what_its_job_needs_and_says_why() -> None:
    order = order_of(SCIENCE, {"raw": [1], "bias": [2]})
    assert list(order.stores) == ["backbone"]
    assert list(order.file_types) == ["catalog", "image"]
    assert [(file.name, file.rule) for file in order.inputs] == [
        ("raw_7_3.fits", "raw or manual"),
        ("bias_a.fits", "nearest in set ccd: 0.4 d before"),
    ]


def test_the_digest_is_that_of_the_order_wherever_it_is_read() -> None:
    order = order_of(SCIENCE, {"raw": [1], "bias": [2]})
    again = JobOrder.model_validate_json(order.model_dump_json(indent=2))
    assert again == order
    assert order_sha256(again) == order_sha256(order)
    assert order_sha256(order_of(SCIENCE, {"raw": [1], "bias": [3]})) != order_sha256(order)


def test_a_key_that_is_left_at_its_default_does_not_change_the_digest() -> None:
    order = order_of(SCIENCE, {"raw": [1], "bias": [2]})
    before_there_was_any = order.model_dump(mode="json", exclude={"resources"})
    assert order_sha256(JobOrder.model_validate(before_there_was_any)) == order_sha256(order)
    assert b"resources" not in canonical(order)


def test_a_file_that_fills_two_roles_is_staged_once_and_keeps_both() -> None:
    raw, bias = order_of(SCIENCE, {"raw": [1], "bias": [1]}), order_of(SCIENCE, {"raw": [1], "bias": [2]})
    [file] = raw.inputs
    assert (file.role, file.more_roles, file.roles) == ("raw", ("bias",), ("raw", "bias"))
    assert [file.roles for file in bias.inputs] == [("raw",), ("bias",)]
    assert raw.steps[0].inputs == ("raw_7_3.fits", "raw_7_3.fits")
