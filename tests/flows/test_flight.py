"""A flight check where Prefect runs, and campaigns whose credentials have ended."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.hosting import flight
from flows.hosting.api import PrefectApi
from flows.hosting.conductor import PrefectConductor
from flows.slice import HALTED
from nightmill.cli import main
from tests.flows.conftest import Conductor, conductor_at, until


def _runs(conductor: Conductor) -> set[str]:
    with PrefectApi.of_site(conductor.site) as api:
        runs = api.runs_in(["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED"], ["reconcile"])
    return {run.id for run in runs}


def test_the_runner_carries_out_a_flow_run_of_which_nothing_stays(
    conductor: Conductor, capsys: pytest.CaptureFixture[str]
) -> None:
    conductor.start()
    before = _runs(conductor)
    with PrefectApi.of_site(conductor.site) as api:
        left = flight.scheduled(api, conductor.site)
    assert _runs(conductor) - before == {left.id}, "as of a check that was killed"
    with pytest.raises(SystemExit):
        main(["doctor", "--flight", "--json", "--site", str(conductor.site)])
    found = {each["what"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["flight Prefect"]["well"], found["flight Prefect"]
    assert found["flight Prefect"]["seen"] == "the runner carried out a flow run, which was removed"
    assert _runs(conductor) == before


def test_a_campaign_halts_where_a_credential_has_ended_and_goes_on_once_it_is_renewed(
    conductor: Conductor, tmp_path: Path
) -> None:
    conductor.start()
    conductor.observatory.observe(98, ["seconds 0\n"] * 2)
    conductor.observatory.submit("n98", 98)
    token, site = tmp_path / "session", conductor.site / "nightmill.yaml"
    token.write_text(json.dumps({"Expiration": (datetime.now(UTC) - timedelta(hours=1)).isoformat()}))
    before = site.read_text()
    site.write_text(f"{before}\ncredentials: [{{name: cloud, kind: session, file: {token}}}]\n")
    try:
        with conductor.observatory.open() as opened:
            run = PrefectConductor(opened).start("n98").flow_run_id
        state = until(
            lambda: found if (found := conductor_at(conductor.site).state(run)).ended else None, 60, "its end"
        )
        assert (state.type, state.name) == ("FAILED", HALTED)
        assert f"credential 'cloud' (session, {token}): it ended at 20" in state.message
        assert "renew it, then begin again" in state.message
        assert set(conductor.observatory.states("n98").values()) <= {"planned", "ready"}
        token.write_text(json.dumps({"Expiration": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}))
        with conductor.observatory.open() as opened:
            assert PrefectConductor(opened).start("n98").flow_run_id == run
        state = until(
            lambda: found if (found := conductor_at(conductor.site).state(run)).type == "COMPLETED" else None, 90, "it"
        )
    finally:
        site.write_text(before)
