"""Which steps depend on network mounts of this host, before anything of them runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from nightmill.config.site import SiteConfig
from nightmill.files.mounts import on_network, paths_of
from nightmill.model.node import NetworkPaths
from nightmill.model.pipeline import Pipeline, Stage, Step
from nightmill.planning.problems import Problems


def site_network_paths(site: SiteConfig) -> list[str]:
    """Return what :func:`network_paths` does for what the jobs of any pipeline may depend on."""
    if site.network_paths is NetworkPaths.ALLOW:
        return []
    images = [copy.path for name in site.containers.images if (copy := site.containers.copy_of(name)) is not None]
    python = paths_of((sys.executable,), {})
    return on_network((site.scratch, site.cache, *python, *images, *site.containers.bind.values()))


def network_paths(pipeline: Pipeline, site: SiteConfig) -> list[str]:
    """Return a sentence for each path that a step, or every job, depends on and that lies on a network mount."""
    if site.network_paths is NetworkPaths.ALLOW:
        return []
    of_jobs = [f"every job: {told}" for told in on_network((site.scratch, site.cache))]
    return [*of_jobs, *(f"{topic}: {told}" for stage in pipeline.stages for topic, told in _of_stage(stage, site))]


def check_network(stage: Stage, site: SiteConfig, problems: Problems) -> None:
    """Report the paths of a stage's steps that lie on network mounts, where the site refuses such steps."""
    if site.network_paths is NetworkPaths.REFUSE:
        for told in on_network((site.scratch, site.cache)):
            problems.add("every job", told)
        for topic, told in _of_stage(stage, site):
            problems.add(topic, told)


def _of_stage(stage: Stage, site: SiteConfig) -> Iterator[tuple[str, str]]:
    for step in stage.steps:
        for told in on_network(_paths(step, site)):
            yield f"stage {stage.name!r}, step {step.name!r}", told


def _paths(step: Step, site: SiteConfig) -> Iterator[Path]:
    """Yield what a step depends on: of one in an image nothing but what the host has of that, and shows in it."""
    if step.image and site.containers.is_used:
        if (copy := site.containers.copy_of(step.image)) is not None:
            yield copy.path
        yield from site.containers.bind.values()
    else:
        argv = ("{python}", step.call) if step.call else step.argv
        yield from paths_of([each.replace("{python}", sys.executable) for each in argv], step.environment)
