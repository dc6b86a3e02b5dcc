"""What the demo does, command by command."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from nightmill.cli.render.output import echo, secho
from nightmill.errors import NightmillError, RequestRefused

MARKER: Final = ".nightmill-demo"
DAMAGED: Final = "nmcam_00005017_03.fits"
"""The raw frame in which a disk turns a bit."""
FRAME: Final = "exposure == 5017 and detector == 3"
"""The same, as an expression."""


class DemoFailed(NightmillError):
    """A command of the demo did not do what it should."""

    exit_code = 1


@dataclass(frozen=True)
class Demo:
    """A demo in a folder of its own.

    Parameters
    ----------
    directory
        Absolute; made anew.
    exposures
        Science exposures to simulate.
    at_failure
        Called when a job has failed, before its cause is mended: the pictures of the documentation are taken then.
    """

    directory: Path
    exposures: int
    at_failure: Callable[[], None] | None = None

    @property
    def site(self) -> Path:
        """The folder of the demo's site."""
        return self.directory / "site"

    def run(self) -> None:
        """Do all of it, and say at the end what to look at.

        Raises
        ------
        RequestRefused
            Where the folder holds something else.
        DemoFailed
            Where a command did not do what it should.
        """
        begun = time.monotonic()
        example = Path(str(files("examples").joinpath("ccd")))
        self._clear()

        self._say("A night of a small camera: 4 detectors, biases, dome flats, and stars that are known")
        secho(f"$ cd {shlex.quote(str(self.directory))}", fg="cyan")
        self._python("-m", "examples.ccd.simulate", "--output", "night", "--exposures", str(self.exposures))
        self._say("A site: its configuration, its database (SQLite), its stores (folders), its Prefect server")
        self._nightmill("init", "site", "--file-types", str(example / "file_types.yaml"))
        self._nightmill("server", "start")
        self._say("The frames go into the data backbone; what their headers say goes into the catalogue")
        for kind in ("bias", "flat", "science"):
            self._nightmill("ingest", f"night/{kind}", "--type", f"raw_{kind}", "--origin", "raw")

        self._say("First campaign: a master bias for each detector, then a master flat for each detector and band")
        self._nightmill("submit", str(example / "calibrations-n1.yaml"), "--watch")
        self._say("Second campaign: every science frame, calibrated with what the first one made")
        self._nightmill("plan", str(example / "science-n1.yaml"), "--limit", "1")
        damaged = self._path_of(DAMAGED)
        self._say("But a disk has turned one bit of one raw frame, and that job will fail")
        self._python("-m", "examples.ccd.damage", str(damaged.relative_to(self.directory)))
        self._nightmill("submit", str(example / "science-n1.yaml"), "--watch", expect=1)
        if self.at_failure is not None:
            self.at_failure()
        self._say("The operator brings the good copy back, and runs again what failed; the rest is not touched")
        self._python("-m", "examples.ccd.damage", str(damaged.relative_to(self.directory)))
        self._nightmill("rerun", "science-n1", "--why", "frame restored from the copy", "--watch")

        self._say("Where did the catalogue of that frame come from?")
        [catalogue] = self._ask_json("find", "--type", "catalog", "--where", FRAME)
        self._nightmill("lineage", catalogue["name"], "--up")
        self._say("And is it right? Every star of the simulation is known")
        products = self._path_of(self._ask_json("find", "--type", "exposure_catalog")[0]["name"]).parent
        self._python("-m", "examples.ccd.check", "night/truth.ecsv", str(products.relative_to(self.directory)))
        self._farewell(catalogue["name"], time.monotonic() - begun)

    def _clear(self) -> None:
        if (self.directory / MARKER).exists():
            if (self.site / "nightmill.yaml").exists():
                self._call(["server", "stop", "--site", str(self.site)], shown=False)
            shutil.rmtree(self.directory)
        elif self.directory.exists() and any(self.directory.iterdir()):
            raise RequestRefused(
                f"{self.directory} exists and holds no demo",
                remedy="give the demo a folder of its own: nightmill demo DIR",
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / MARKER).touch()

    def _farewell(self, catalogue: str, seconds: float) -> None:
        from flows.hosting.server import link
        from flows.hosting.service import folder_of

        ui = link(folder_of(self.site), "/runs")
        where = shlex.quote(str(self.site))
        nightmill = "nightmill" if shutil.which("nightmill") else str(Path(sys.executable).with_name("nightmill"))
        self._say(f"Done, in {seconds:.0f} s. Look around:")
        for line in (
            f"  in the browser      {ui}    (campaigns, slices, jobs by name, the one that failed)",
            f"  why is it so        {nightmill} why {catalogue} --site {where}",
            f"  how it stands       {nightmill} status science-n1 --site {where}",
            f'  ask the database    {nightmill} sql "SELECT * FROM job_status WHERE attempts > 1" --site {where}',  # noqa: S608 - shown, not run
            f"  the example itself  {files('examples').joinpath('ccd')}",
            "  then your own       docs/tutorial/2-your-own-pipeline.md",
            f"  when you are done   {nightmill} server stop --site {where}",
        ):
            echo(line)

    def _say(self, text: str) -> None:
        secho(f"\n{text}", bold=True)

    def _nightmill(self, *arguments: str, expect: int = 0) -> None:
        at_site = () if arguments[0] == "init" else ("--site", "site")
        code = self._call([*arguments, *at_site], shown=True)
        if code != expect:
            raise DemoFailed(f"'nightmill {shlex.join(arguments)}' ended with code {code}, expected was {expect}")

    def _python(self, *arguments: str) -> None:
        secho(f"$ python {shlex.join(arguments)}", fg="cyan")
        code = subprocess.run([sys.executable, *arguments], cwd=self.directory, check=False).returncode
        if code != 0:
            raise DemoFailed(f"'python {shlex.join(arguments)}' ended with code {code}")

    def _call(self, arguments: Sequence[str], *, shown: bool) -> int:
        if shown:
            secho(f"$ nightmill {shlex.join(arguments)}", fg="cyan")
        return subprocess.run(
            [sys.executable, "-m", "nightmill", *arguments], cwd=self.directory, check=False
        ).returncode

    def _ask_json(self, *arguments: str) -> Any:
        command = [sys.executable, "-m", "nightmill", *arguments, "--json", "--site", str(self.site)]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)

    def _path_of(self, name: str) -> Path:
        """Return where a file lies in the site's store."""
        from nightmill.operations.site import open_site

        with open_site(self.site) as site, site.database.reading() as session:
            from nightmill.backbone.catalogue.files import found_columns, found_files
            from nightmill.backbone.schema import FileRow

            [file] = found_files(session, found_columns(session).where(FileRow.name == name))
            return Path(site.config.stores[file.store].url.removeprefix("file://")) / file.path
