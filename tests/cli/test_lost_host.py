"""``nightmill record --host-lost``: an operator's word that a host will not come back."""

from __future__ import annotations

from pathlib import Path

from nightmill.backbone.work import leases
from nightmill.clock import utc_now
from nightmill.execution.owner import this_process
from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill

LOST = ("record", "--host-lost", "node7")
WHY = ("--why", "its mainboard burnt")


def test_a_host_is_declared_lost_by_an_operator_who_says_why(each_folder: Path, nightmill: Nightmill) -> None:
    owner = this_process().model_copy(update={"host": "node7"})
    with open_site(each_folder) as site:
        site.database.write(lambda session: leases.take(session, owner, flow_run_id=None, now=utc_now()))
    unexplained = nightmill(*LOST)
    assert (unexplained.code, "--host-lost and --why go together" in unexplained.err) == (2, True)
    elsewhere = nightmill("record", "--host-lost", "node8", *WHY)
    assert elsewhere.code == 2
    assert "no lease and no journal of host 'node8' is open (did you mean 'node7'?)" in elsewhere.err
    told = nightmill(*LOST, *WHY, "--json")
    assert (told.code, told.json["lost"]) == (0, 0), told.err
    acts = nightmill("sql", "SELECT subject, why FROM audit WHERE verb = 'record --host-lost'", "--json")
    assert acts.json == [{"subject": "node7", "why": "its mainboard burnt"}]
    assert nightmill(*LOST, *WHY).code == 2, "nothing of it is open any more"


def test_nobody_else_declares_a_host_lost(folder: Path, nightmill: Nightmill) -> None:
    with (folder / "nightmill.yaml").open("a") as file:
        file.write("operators: [somebody-else]\n")
    refused = nightmill(*LOST, *WHY)
    assert refused.code == 2
    assert "'nightmill record --host-lost' is for the operators" in refused.err
    assert nightmill("record").code == 0, "draining is everybody's"
