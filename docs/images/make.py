"""Take the pictures of the UI that the documentation shows.

``python -m docs.images.make DIR``, in the folder of this repository, runs ``nightmill demo DIR`` and takes them at the
moment when a job has failed. They show what is there: nothing is drawn into them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from flows.hosting import server, service
from nightmill.backbone.work import campaigns
from nightmill.backbone.work.slices import slices
from nightmill.cli.demonstration import Demo
from nightmill.model.states import JobState
from nightmill.operations.site import open_site
from tests.flows.browser import open_ui

IMAGES = Path(__file__).parent


def take_pictures(site: Path, campaign: str, images: Path) -> None:
    """Take pictures of a campaign of which a job has failed.

    Parameters
    ----------
    site
        Its folder; its server runs.
    campaign
        By name.
    images
        The folder for ``ui-runs.png``, ``ui-campaign.png`` and ``ui-job.png``.
    """
    with open_site(site) as opened, opened.database.reading() as session:
        row = campaigns.campaign_named(session, campaign)
        failed = next(campaigns.jobs(session, row.id, states=[JobState.FAILED]))
        [slice_] = slices(session, row.id, stage=failed.stage)
    link = server.link(service.folder_of(site))
    reason = failed.evidence.partition("\n")[0]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, open_ui(link, Path(profile)) as ui:
        ui.go("/runs")
        ui.sees(f"{campaign} {failed.stage} #{slice_.number}")
        ui.scroll_to("Page 1 of 1")
        ui.picture(images / "ui-runs.png")
        ui.flow_run(slice_.flow_run_id)
        ui.sees(reason)
        ui.picture(images / "ui-campaign.png")
        ui.tab("Task Runs")
        ui.search("Search by run name", failed.unit)
        ui.follow(failed.name)
        ui.sees(reason)
        ui.picture(images / "ui-job.png")


def main() -> None:
    """Run the demo and take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m docs.images.make", description=__doc__)
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="folder for the demo; one that is there is replaced"
    )
    directory = parser.parse_args().directory.resolve()
    Demo(directory, exposures=12, at_failure=lambda: take_pictures(directory / "site", "science-n1", IMAGES)).run()


if __name__ == "__main__":
    main()
