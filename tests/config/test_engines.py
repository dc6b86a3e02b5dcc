"""Engines of a site: what is wrong with one is told by its place, its key and a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.site import load_site
from nightmill.engines.dask_clusters import DaskOptions
from nightmill.model.engine import THREADS
from tests.config.documents import refusals, write
from tests.config.test_site import SITE, site

__all__ = ["site"]


@pytest.mark.parametrize(
    ("engines", "expected"),
    [
        ("x: processes", "engines.x is a text and should be a mapping; give it a kind: processes, for one"),
        ("x: {workers: 2}", "engines.x.kind is missing"),
        ("x: {kind: proceses}", "engines.x.kind: no kind of engine named 'proceses' (did you mean 'processes'?)"),
        ("x: {kind: processes, worker: 2}", "unknown key engines.x.worker (did you mean 'workers'?)"),
        ("x: {kind: processes, workers: -1}", "engines.x.workers is -1 and should be greater than or equal to 0"),
        ("x: {kind: threads, workers: 1}", "unknown key engines.x.workers"),
        ("x: {kind: dask}", "it has an address or a number of workers, one of the two"),
        ("x: {kind: dask, address: 'tcp://a:1', workers: 1}", "an address or a number of workers, one of the two"),
        ("x: {kind: dask, workers: {least: 3, most: 2}}", "least is 3, which is more than most: 2"),
        ("x: {kind: dask, workers: {least: 3}}", "engines.x.workers.most is missing"),
        ("x: {kind: dask, workers: {most: 3, lest: 1}}", "unknown key engines.x.workers.lest"),
        ("x: {kind: dask, workers: 2, queue: long}", "queue is for workers of a batch system: say cluster: slurm"),
        ("x: {kind: dask, workers: 2, cluster: slrum}", "engines.x.cluster is 'slrum' and should be 'local', 'slurm'"),
        ("x: {kind: dask, address: 'tcp://a:1', cluster: slurm}", "cluster: slurm is for workers of its own"),
        ("x: {kind: dask, workers: 2, cluster: htcondor, wall_seconds: 9}", "wall_seconds is for Slurm: HTCondor has"),
        ("my x: {kind: processes}", "engine name 'my x' should have letters, digits"),
        ("x: {kind: dask, workers: 1}\n  x: {kind: processes}", "x"),
    ],
)
def test_what_is_wrong_with_an_engine_is_named(site: Path, engines: str, expected: str) -> None:
    write(site, "nightmill.yaml", f"{SITE}engines:\n  {engines}\n")
    found = refusals(load_site, site)
    assert any(expected in problem for problem in found), found


def test_every_kind_of_engine_says_which_accelerators_its_hosts_have(site: Path) -> None:
    write(site, "nightmill.yaml", f"{SITE}engines:\n  threads: {{kind: threads, accelerators: [gpu]}}\n")
    engines = load_site(site).engines
    assert {name: engine.accelerators for name, engine in engines.items()} == {THREADS: ("gpu",)}


def test_engines_have_the_options_of_their_kinds_and_threads_is_always_one(site: Path) -> None:
    write(site, "nightmill.yaml", f"{SITE}engines:\n  far: {{kind: dask, address: 'tcp://a:1'}}\n")
    engines = load_site(site).engines
    assert {name: engine.kind for name, engine in engines.items()} == {THREADS: THREADS, "far": "dask"}
    assert engines["far"].options == DaskOptions(address="tcp://a:1")
