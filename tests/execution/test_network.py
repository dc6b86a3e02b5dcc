"""Steps that depend on a network mount: the node looks before it starts them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.execution.worker import Worker
from nightmill.model.confinement import NodeConfinement
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.model.node import NetworkPaths, NodeProfile
from nightmill.model.order import OrderStep
from nightmill.model.report import JobReport
from tests.support.fuse import fuse_mount
from tests.support.image import make_image, needs_bubblewrap
from tests.support.orders import Bench


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that comes by FUSE, with a program."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server/tool").write_text("#!/bin/sh\necho done\n")
    (tmp_path / "server/tool").chmod(0o755)
    with fuse_mount(tmp_path / "server", tmp_path / "far") as point:
        yield point


def carried_out(bench: Bench, policy: NetworkPaths, *steps: OrderStep) -> tuple[JobReport, str]:
    """Carry out an order by a policy; return its report and its log."""
    profile = NodeProfile(
        scratch=bench.scratch,
        spool=bench.spool,
        network_paths=policy,
        containers=bench.containers,
        confinement=NodeConfinement(reads=(bench.root.parent / "far",)),
    )
    logs = bench.root / "stores/backbone/logs"
    before = set(logs.glob("*"))
    with Worker(profile, bench.stagers) as worker:
        [report] = worker.run([bench.order(*steps, number=len(before) + 1)])
    return report, "".join(path.read_text() for path in set(logs.glob("*")) - before)


def test_the_log_tells_what_a_step_depends_on(far: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "site")
    told = f"== s: {far}/tool lies on a network mount, {far} (fuse, {tmp_path}/server)\n"
    steps = [
        OrderStep(name="s", argv=(f"{far}/tool",)),
        OrderStep(name="s", argv=("tool",), environment={"PATH": f"{far}:/usr/bin:/bin"}),
        OrderStep(name="s", argv=("sh", "-c", f"exec {far}/tool")),
    ]
    for step in steps:
        report, log = carried_out(bench, NetworkPaths.WARN, step)
        assert report.fate is Fate.PUBLISHED, report.evidence
        assert told in log
        assert log.endswith("\ndone\n")
    assert "network mount" not in carried_out(bench, NetworkPaths.ALLOW, steps[0])[1]
    assert "network mount" not in carried_out(bench, NetworkPaths.WARN, OrderStep(name="s", argv=("true",)))[1]


@pytest.mark.req("F34")
def test_a_site_may_refuse_them(far: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "site")
    near, other = OrderStep(name="near", argv=("true",)), OrderStep(name="far", argv=(f"{far}/tool",))
    report, log = carried_out(bench, NetworkPaths.REFUSE, near, other)
    assert (report.fate, report.failed_step) == (Fate.STEP_NOT_STARTED, "far")
    assert (report.steps, log) == ((), "")  # before anything is staged
    assert f"step 'far' is not started: {far}/tool lies on a network mount, {far} (fuse, " in report.evidence
    assert "and the site refuses that; put it into the image, the pipeline's folder or a disk of" in report.evidence


def test_scratch_counts_and_of_an_image_what_the_host_has(far: Path, tmp_path: Path) -> None:
    bench = Bench(tmp_path / "server" / "site")
    object.__setattr__(bench, "root", far / "site")
    report, _log = carried_out(bench, NetworkPaths.REFUSE, OrderStep(name="s", argv=("true",)))
    assert f"{far}/site/scratch lies on a network mount" in report.evidence

    needs_bubblewrap()
    near = Bench(tmp_path / "near")
    name = f"tiny@{make_image(tmp_path / 'server/image')}"
    near.containers = Containers(runtime="bubblewrap", images={name: far / "image"})
    step = OrderStep(name="s", argv=("sh", "-c", f"echo {far}/tool"), image=name)
    report, _log = carried_out(near, NetworkPaths.REFUSE, step)
    assert f"step 's' is not started: {far}/image lies on a network mount" in report.evidence
    assert f"{far}/tool" not in report.evidence  # that would be of the image
