"""Which engine carries out a stage: ``--engine``, its conflicts, what a rerun changes, and what a stage asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.backbone.work import campaigns
from nightmill.config.campaign import load_campaign
from nightmill.errors import ConfigErrors, PlanRefused, RequestRefused, UnknownName
from nightmill.model.campaign import Campaign
from nightmill.operations.rerun import rerun
from nightmill.operations.wanted import Wanted
from tests.cli.conftest import Nightmill, nightmill
from tests.operations.test_engines import conduct
from tests.support.observatory import Observatory

__all__ = ["nightmill"]

ENGINES = """
engines:
  workers: {kind: processes, workers: 2}
  farm: {kind: slurm, accelerators: [gpu, "gpu:a100"]}
"""


@pytest.fixture
def observatory(tmp_path: Path) -> Observatory:
    observatory = Observatory.build(tmp_path / "site")
    with (observatory.directory / "nightmill.yaml").open("a") as file:
        file.write(ENGINES)
    return observatory


def written(observatory: Observatory, execution: str = "{}") -> Path:
    path = observatory.directory / "night1.yaml"
    path.write_text(f"campaign: night1\npipeline: pipeline.yaml\nexecution: {execution}\n")
    return path


def engines_of(observatory: Observatory) -> list[str]:
    with observatory.open() as site, site.database.reading() as session:
        campaign = Campaign.model_validate(campaigns.campaign_named(session, "night1").definition)
    return [campaign.execution.engine_of(stage.name) for stage in campaign.pipeline.stages]


@pytest.mark.parametrize(
    ("execution", "settings", "told"),
    [
        (
            "{engines: {science: farm}}",
            [],
            "night1.yaml:3: stage 'science' is given two engines: 'farm' by execution.engines.science and 'workers' by"
            " --engine; leave out --engine, or say the same of the stage: --set execution.engines.science=workers",
        ),
        (
            "{}",
            ["execution.engine=farm"],
            "--engine workers: execution.engine is given two engines: 'farm' (--set execution.engine=farm) and "
            "'workers'; say one of them",
        ),
        (
            "{}",
            ["execution.engines.summary=farm"],
            "--set execution.engines.summary=farm: stage 'summary' is given two engines: 'farm' by execution.engines."
            "summary and 'workers' by --engine",
        ),
    ],
)
def test_two_engines_for_one_stage_are_refused_with_where_each_is_written(
    observatory: Observatory, execution: str, settings: list[str], told: str
) -> None:
    with pytest.raises(ConfigErrors) as refused:
        load_campaign(written(observatory, execution), settings, engine="workers")
    assert told in str(refused.value)


def test_a_stage_of_its_own_engine_is_an_exception_and_the_same_twice_is_no_conflict(observatory: Observatory) -> None:
    path = written(observatory, "{engine: farm, engines: {science: workers, summary: farm}}")
    campaign = load_campaign(path)
    assert [campaign.execution.engine_of(name) for name in ("science", "summary")] == ["workers", "farm"]
    settings = ["execution.engines.summary=workers", "execution.engine=workers"]
    campaign = load_campaign(path, settings, engine="workers")
    assert [campaign.execution.engine_of(name) for name in ("science", "summary")] == ["workers", "workers"]
    with pytest.raises(ConfigErrors, match=r"engines.summary is given two engines: 'farm'"):
        load_campaign(path, ["execution.engines.summary=farm", "execution.engines.summary=workers"])


def test_plan_and_explain_take_the_engine_of_the_command_line(nightmill: Nightmill, observatory: Observatory) -> None:
    observatory.observe(1, ["seconds 0"])
    path, folder = written(observatory, "{engine: farm}"), observatory.directory
    told = nightmill("plan", path, "--engine", "workers", "--explain", "execution.engine", "--site", folder)
    assert "command line" in told.out
    told = nightmill("plan", path, "--engine", "worker", "--site", folder)
    assert (told.code, "the site has no engine 'worker' (did you mean 'workers'?)" in told.err) == (2, True)
    told = nightmill("submit", "--plan", "123", "--engine", "workers", "--site", folder)
    assert told.code == 2
    assert "--exclude and --engine would change it" in told.err


def test_a_rerun_gives_what_runs_again_another_engine(observatory: Observatory) -> None:
    observatory.observe(1, ["exit 3"])
    observatory.submit("night1", 1, "execution.engine=workers", "overrides.stages.science.retries=0")
    conduct(observatory)
    with observatory.open() as site:
        with pytest.raises(UnknownName, match=r"no engine named 'cloud'"):
            rerun(site, "night1", wanted=Wanted(engine="cloud"))
        assert rerun(site, "night1", wanted=Wanted(engine="threads"), dry_run=True).foreseen.jobs
    assert engines_of(observatory) == ["workers", "workers"]
    with observatory.open() as site:
        rerun(site, "night1", wanted=Wanted(engine="threads", stage="science"))
    assert engines_of(observatory) == ["threads", "workers"]
    conduct(observatory)
    with observatory.open() as site, pytest.raises(RequestRefused) as refused:
        rerun(site, "night1", wanted=Wanted(engine="farm"))
    assert str(refused.value) == (
        "stage 'science' is given two engines: 'threads' by execution.engines.science, command line, and 'farm' by"
        " --engine; give this stage alone another, with '--stage science', or name the same"
    )
    observatory.submit("night1", 1, "overrides.stages.science.retries=0")
    assert engines_of(observatory) == ["", ""], "submitted again, it is as it says"


def test_a_stage_that_asks_for_accelerators_needs_an_engine_that_has_them(observatory: Observatory) -> None:
    observatory.observe(1, ["seconds 0"])
    wanted = "pipeline.stages.science.resources={accelerators: 2}"
    for settings, told in (
        ([wanted], "engine 'threads' has none; give it engine farm"),
        ([wanted, "execution.engine=workers"], "engine 'workers' has none; give it engine farm"),
        (
            [wanted.replace("}", ", accelerator: tpu}"), "execution.engine=farm"],
            "engine 'farm' has gpu, gpu:a100; where its hosts have some, say so: engines.farm.accelerators of",
        ),
    ):
        with pytest.raises(PlanRefused) as refused:
            observatory.submit("night1", 1, *settings)
        assert told in str(refused.value)
        assert "stage 'science': it asks for 2 of accelerator " in str(refused.value)
    observatory.submit("night1", 1, wanted, "execution.engine=farm")
    with observatory.open() as site, pytest.raises(RequestRefused, match="engine 'threads' has none"):
        rerun(site, "night1", wanted=Wanted(engine="threads"))
    with pytest.raises(ConfigErrors, match=r"accelerator is 'gpu:' and should"):
        observatory.submit("night2", 1, "pipeline.stages.science.resources={accelerators: 1, accelerator: 'gpu:'}")
