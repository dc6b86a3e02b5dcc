"""What a site says of confinement, and what a step says that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.pipeline import load_pipeline
from nightmill.config.site import load_site
from nightmill.errors import ConfigErrors
from nightmill.model.confinement import Use
from tests.config.documents import PIPELINE, write
from tests.config.test_pipeline import problems

SITE = "site: s\nfile_types: [types.yaml]\nstores: {backbone: {url: b}, far: {url: /archive}}\n"
CALL = "call: ccd.detect:main"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "types.yaml").write_text("file_types: {}\n")
    return tmp_path / "nightmill.yaml"


def test_what_a_site_says(site: Path) -> None:
    folder = site.parent
    site.write_text(f"{SITE}confinement: {{use: demand, reads: [/software, own], open_files: 100}}\n")
    said = load_site(folder).confinement
    assert (said.use, said.reads) == (Use.DEMAND, (Path("/software"), folder / "own"))
    assert (said.processes, said.open_files) == (4096, 100)
    closed = {folder / "b", Path("/archive"), site, folder / ".nightmill", folder / "nightmill.db"}
    assert closed <= set(said.closed)
    site.write_text(SITE)
    assert load_site(folder).confinement.use is Use.TRY


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{use: maybe}", r"nightmill\.yaml:4: confinement\.use is 'maybe' and should be"),
        ("{read: [/software]}", r"unknown key confinement\.read \(did you mean 'reads'\?\)"),
        ("{processes: 0}", r"confinement\.processes is 0 and should be"),
        ("{closed: [/a]}", r"unknown key confinement\.closed; known here: use, reads, processes, open_files"),
        ("{cgroup: own.slice}", r"confinement\.cgroup.*own\.slice.* is not a path from the root, as /sys/fs/cgroup"),
    ],
)
def test_what_is_wrong_with_it(site: Path, text: str, told: str) -> None:
    site.write_text(f"{SITE}confinement: {text}\n")
    with pytest.raises(ConfigErrors, match=told):
        load_site(site.parent)


def test_what_a_step_needs(tmp_path: Path) -> None:
    keys = ("network: on", "network: [443, 8080]", "network: off", "sockets: true", "shared_memory: true")
    found = []
    for key in keys:
        write(tmp_path, "pipeline.yaml", PIPELINE.replace(CALL, f"{CALL}\n        {key}"))
        step = load_pipeline(tmp_path / "pipeline.yaml").stage("science").steps[1]
        found.append((step.network, step.sockets, step.shared_memory))
    assert found == [
        ("on", False, False),
        ((443, 8080), False, False),
        ("off", False, False),
        ("off", True, False),
        ("off", False, True),
    ]


@pytest.mark.parametrize("network", ["maybe", "[70000]", "[0]", "true", "443"])
def test_what_is_not_a_network(tmp_path: Path, network: str) -> None:
    [found] = problems(tmp_path, (CALL, f"{CALL}\n        network: {network}"))
    assert "network" in found


def test_a_plan_of_steps_that_need_nothing_keeps_its_digest(tmp_path: Path) -> None:
    text = load_pipeline(write(tmp_path, "pipeline.yaml", PIPELINE)).model_dump_json()
    assert not any(f'"{key}"' in text for key in ("network", "sockets", "shared_memory"))
