from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.config.file_types import load_file_types
from tests.examples.programs import EXAMPLES

CAMPAIGNS = [*sorted(EXAMPLES.glob("ccd/*-n1.yaml")), EXAMPLES / "real" / "saao.yaml", EXAMPLES / "real" / "gmos.yaml"]


@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.stem)
def test_campaigns_use_only_types_and_programs_that_are_there(path: Path) -> None:
    campaign = load_campaign(path)
    types = load_file_types([path.parent / "file_types.yaml"])
    for stage in campaign.pipeline.stages:
        used = {wanted.type for wanted in stage.inputs.values()}
        used |= {output.type for step in stage.steps for output in step.outputs.values()}
        assert used <= set(types)
        for step in stage.steps:
            program = step.argv[1].replace("{pipeline_dir}", campaign.pipeline.directory)
            assert Path(program).is_file()


def test_gmos_campaign_takes_another_type_by_an_override() -> None:
    campaign = load_campaign(EXAMPLES / "real" / "gmos.yaml")
    assert campaign.pipeline.stage("quicklook").inputs["frames"].type == "gmos_frame"
    assert campaign.parameters["read_noise"] == 4.24
