"""Two sites of a catalogue that are partners, and what one does with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from nightmill.config.campaign import load_campaign
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill
from tests.examples.campaigns import conduct, job_lines


def partner(site: Path, name: str, folder: Path, *, url: str = "", **more: Any) -> None:
    """Let a site read the store of another, and more."""
    path = site / "nightmill.yaml"
    config = yaml.safe_load(path.read_text())
    store = {"url": url or str(folder / "stores" / "backbone"), "transfers": 1}
    config.setdefault("partners", {})[name] = {"stores": {"backbone": store}, **more}
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def run(folder: Path, name: str = "far") -> list[str]:
    """Submit a campaign, carry out what can be, and return the states of its jobs."""
    with open_site(folder) as site:
        submit(site, load_campaign(folder / f"{name}.yaml"), who="bob")
        conduct(site, name)
        return [str(line.state) for line in job_lines(site, name)]


def transfers(nightmill: Nightmill, folder: Path) -> list[dict[str, Any]]:
    query = (
        "SELECT file_name, campaign, purpose, state, from_site, to_site, size_bytes, tries, evidence"
        " FROM file_transfer ORDER BY transfer_id"
    )
    found: list[dict[str, Any]] = nightmill("sql", query, "--json", "--site", folder).json
    return found


def raw(folder: Path, number: int) -> Path:
    [path] = (folder / "stores" / "backbone").rglob(f"cam_{number:04d}.fits")
    return path
