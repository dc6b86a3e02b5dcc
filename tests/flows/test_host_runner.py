"""A runner beside the one of the server: what it fits, what it refuses, and that it believes the server nothing."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from flows.hosting import host_runner, service
from flows.hosting.access import read_secret, require_private
from flows.hosting.api import PrefectApi
from flows.hosting.daemon import TURN, Daemon, DaemonState
from flows.hosting.declared import load_deployments
from flows.hosting.deploy import deploy
from flows.hosting.host_runner import SECRET_VARIABLE, HostRunner, deployments_for
from flows.hosting.runners import TURN_LIMIT, RunnerStatus, all_runners, one, stop
from nightmill.cli import main
from nightmill.config.site import load_site
from nightmill.errors import ConfigError, RequestRefused, ServerAway
from nightmill.execution.owner import this_process
from tests.flows.conftest import DEPLOYMENTS, Conductor, until

SLICES = {"slices": 1}


@pytest.fixture(scope="module", autouse=True)
def _deployed_by_nightmill(conductor: Conductor) -> None:
    _deploy(conductor)


def _deploy(conductor: Conductor) -> None:
    limits = {"campaigns": 2, "slices": None, "services": 1}
    deploy(conductor.client, load_deployments(DEPLOYMENTS), site=conductor.site, limits=limits)


@contextmanager
def running(conductor: Conductor, options: HostRunner) -> Iterator[RunnerStatus]:
    try:
        yield host_runner.start(load_site(conductor.site, need_types=False), options)
    finally:
        stop(conductor.site, options.name)


def refused(conductor: Conductor, options: HostRunner) -> str:
    """Return why a runner is not started."""
    with pytest.raises((RequestRefused, ServerAway, ConfigError)) as told:
        host_runner.start(load_site(conductor.site, need_types=False), options)
    assert one(conductor.site, "runner").state is DaemonState.STOPPED
    return str(told.value)


def test_it_takes_no_deployment_but_those_of_the_site(
    conductor: Conductor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proof = tmp_path / "proof"
    client = conductor.client
    slice_ = client.read_deployment_by_name("slice/slice")
    script = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {proof}"}}
    other = client.create_deployment(
        slice_.flow_id, "other", work_pool_name="nightmill", work_queue_name="slices", pull_steps=[script]
    )
    Daemon(service.folder_of(conductor.site), "runner").stop(service.RUNNER_STOP_SECONDS)
    try:
        with running(conductor, HostRunner(queues=SLICES)) as found:
            assert found.healthy
            assert found.queues == SLICES
            [seen] = all_runners(conductor.site)
            assert until(lambda: all_runners(conductor.site)[0].heard_at is not None, 30, "the server to hear of it")
            assert str(seen).startswith(f"runner of {conductor.site.name} on {found.host} (slices=1): running")
            again = host_runner.start(load_site(conductor.site, need_types=False), HostRunner(queues={"slices": 7}))
            assert (again.pid, again.queues) == (found.pid, SLICES), "one that runs is left as it is"
            run = client.create_flow_run_from_deployment(other)
            state = conductor.wait(run.id, "Refused")
            assert "was not made by the runner of this site: nothing was executed" in str(state.message)
            asked = {"campaign": "none", "stage": "none", "number": 0, "site": str(tmp_path)}
            foreign = client.create_flow_run_from_deployment(slice_.id, parameters=asked)
            state = conductor.wait(foreign.id, "Refused")
            assert f"the flow run is for site {tmp_path}" in str(state.message)
            with monkeypatch.context() as upgraded:
                upgraded.setattr("flows.hosting.deploy.__version__", "9.9")
                _deploy(conductor)
            left = client.create_flow_run_from_deployment(slice_.id, parameters=asked)
            log = Path(found.log)
            until(lambda: "are of nightmill 9.9 by now, and this is 0." in log.read_text(), 30, "the log to say so")
            assert conductor.state(left.id).name in ("Scheduled", "Late")
            client.delete_flow_run(left.id)
            _deploy(conductor)
            os.kill(found.pid, signal.SIGTERM)
            until(lambda: one(conductor.site, "runner").state is DaemonState.STOPPED, 30, "it to end, and to say so")
        assert one(conductor.site, "runner").state is DaemonState.STOPPED
        assert all_runners(conductor.site) == []
        assert not proof.exists()
    finally:
        client.delete_deployment(other)
        conductor.start()


def test_one_that_hangs_or_died_is_told(conductor: Conductor, capsys: pytest.CaptureFixture[str]) -> None:
    folder = conductor.site / ".nightmill" / "runners" / f"stuck@{this_process().host}"
    runner = Daemon(folder, "runner")
    runner.become({"name": "stuck of site", "queues": "slices=2"})
    try:
        (folder / TURN).touch()
        assert one(conductor.site, "stuck").healthy
        long_ago = time.time() - TURN_LIMIT.total_seconds() - 1
        os.utime(folder / TURN, (long_ago, long_ago))
        assert not one(conductor.site, "stuck").healthy
        with pytest.raises(SystemExit) as ended:
            main(["runner", "status", "--name", "stuck", "--site", str(conductor.site)])
        assert ended.value.code == 3
        assert "running (pid" in capsys.readouterr().out
        [found] = all_runners(conductor.site)
        assert f"silent since {found.turn_at:%Y-%m-%d %H:%M:%S} UTC; start it anew on {found.host}" in str(found)
        assert f"'nightmill record --host-lost {found.host} --why ...'" in str(found)
    finally:
        shutil.rmtree(folder)


def test_the_secret_is_its_owners_alone_and_the_servers(
    conductor: Conductor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    file.write_text("nightmill:guess\n")
    file.chmod(0o640)
    options = HostRunner(queues=SLICES, secret_file=file)
    assert f"{file}: others can read the server's secret; chmod 600 {file}" in refused(conductor, options)
    file.chmod(0o600)
    told = refused(conductor, options)
    assert "refuses the secret that it was sent" in told
    assert f"give the runner what the server's host has in {conductor.site}/.nightmill/server/secret" in told
    assert "the server's secret cannot be read: No such file" in refused(
        conductor, replace(options, secret_file=tmp_path / "none")
    )
    monkeypatch.setenv(SECRET_VARIABLE, "nightmill:guess")
    assert "refuses the secret" in refused(conductor, HostRunner(queues=SLICES))
    assert "guess" not in refused(conductor, HostRunner(queues=SLICES))


def test_kubernetes_gives_a_secret_of_root_to_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secret"
    file.write_text("nightmill:guess")
    monkeypatch.setattr("os.getuid", lambda: file.stat().st_uid + 1)
    file.chmod(0o440)
    assert require_private(file) == "nightmill:guess"
    file.chmod(0o444)
    with pytest.raises(ConfigError, match="others can read the server's secret"):
        require_private(file)


def test_what_does_not_fit_is_told_before_anything_starts(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = service.status(conductor.site).server.api_url
    assert "cannot be reached" in refused(conductor, HostRunner(queues=SLICES, server_url="http://127.0.0.1:9"))
    assert "'first:4200' is not the address of a server; write http://HOST:PORT" in refused(
        conductor, HostRunner(queues=SLICES, server_url="first:4200")
    )
    told = refused(conductor, HostRunner(queues={"slice": 0}))
    assert "'slice' is not a work queue (did you mean 'slices'?); the site has campaigns, slices, services" in told
    assert "runner name 'a/b' should have letters" in refused(conductor, HostRunner("a/b", SLICES))
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "node7")
        assert "and its catalogue is SQLite" in refused(conductor, HostRunner(queues=SLICES, server_url=url))
        assert "which hosts cannot share; move it to PostgreSQL" in refused(
            conductor, HostRunner(queues=SLICES, server_url=url)
        )
    monkeypatch.setattr(host_runner, "__version__", "9.9")
    told = refused(conductor, HostRunner(queues=SLICES))
    assert "the deployments of the site's server are of nightmill 0." in told
    assert "and this is nightmill 9.9; install the same version on all hosts" in told


def test_the_server_must_conduct_this_very_site(
    conductor: Conductor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = PrefectApi(service.status(conductor.site).server.api_url, read_secret(service.folder_of(conductor.site)))
    with api:
        found = deployments_for(api, conductor.site, {"slices": 1, "campaigns": 1})
        assert set(found.values()) == {"flows.slice.slice_", "flows.campaign.campaign"}
        assert all(isinstance(each, UUID) for each in found)
        with pytest.raises(RequestRefused, match=f"conducts the site {conductor.site}, and this is {tmp_path}"):
            deployments_for(api, tmp_path, SLICES)
        declared = load_deployments()
        changed = [each.model_copy(update={"entrypoint": "flows.other.slice_"}) for each in declared.deployments]
        monkeypatch.setattr(
            host_runner, "load_deployments", lambda: declared.model_copy(update={"deployments": tuple(changed)})
        )
        with pytest.raises(RequestRefused, match="has no deployment 'slice' as nightmill makes it"):
            deployments_for(api, conductor.site, SLICES)


def test_verbs_say_what_is_wrong_with_queues(conductor: Conductor, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["runner", "start", "--queue", "slices=none", "--site", str(conductor.site)])
    assert ended.value.code == 2
    assert "--queue slices=none: 'none' is not a number of flow runs; write QUEUE=N" in capsys.readouterr().err
