"""Steps whose programs lie on a network mount: what plan, submit and doctor say of them before anything runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill, describe, take_in
from tests.cli.counting import FLATTEN, PIPELINE, TYPES
from tests.support.fuse import fuse_mount


@pytest.mark.req("F34")
def test_steps_that_depend_on_a_network_mount_are_flagged(folder: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.mkdir()
    (server / "sh").symlink_to("/bin/sh")
    pipeline = PIPELINE.replace('["sh", "-c"', f'["{tmp_path}/far/sh", "-c"')
    describe(folder, TYPES, pipeline, at="pipeline/pipeline.yaml")
    (folder / "pipeline" / "flatten.py").write_text(FLATTEN)
    take_in(nightmill, tmp_path / "night", 1)
    with fuse_mount(server, tmp_path / "far") as far:
        told = f"stage 'count', step 'measure': {far}/sh lies on a network mount, {far} (fuse, {server})"
        planned = nightmill("plan", "first.yaml")
        assert (planned.code, planned.err.splitlines()) == (0, [f"warning: {told}"])
        said: list[str] = []
        with open_site(folder) as site:
            submit(site, load_campaign(folder / "first.yaml"), tell=said.append)
        assert said == [told]
        assert "well  network mounts: jobs depend on none" in nightmill("doctor").out

        written = (folder / "nightmill.yaml").read_text()
        (folder / "nightmill.yaml").write_text(f"{written}network_paths: refuse\n")
        (folder / "second.yaml").write_text("campaign: second\npipeline: pipeline/pipeline.yaml\n")
        refused = nightmill("plan", "second.yaml")
        assert refused.code == 2
        assert told in refused.err
        (folder / "nightmill.yaml").write_text(
            re.sub("(?m)^scratch: .*$", f"scratch: {far}/scratch", written) + "network_paths: refuse\n"
        )
        assert f"every job: {far}/scratch lies on a network mount" in nightmill("plan", "second.yaml").err
        doctor = nightmill("doctor")
        assert doctor.code == 1
        assert f"WRONG network mounts: {far}/scratch lies on a network mount, {far} (fuse, " in doctor.out
        (folder / "nightmill.yaml").write_text(f"{written}network_paths: allow\n")
        assert nightmill("plan", "second.yaml").err == ""
        assert "network mounts: not looked at: the site allows them" in nightmill("doctor").out
        (folder / "nightmill.yaml").write_text(f"{written}network_paths: forbid\n")
        assert "network_paths is 'forbid'" in nightmill("plan", "second.yaml").err
