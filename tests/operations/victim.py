"""A process that takes files in, and kills itself at a chosen moment.

    python -m tests.operations.victim SITE FOLDER MODE [MOMENT COUNT]

MOMENT is ``upload``, ``sync``, ``reveal``, ``link`` (inside of a reveal, between its link and its unlink), ``settle``,
``register`` (inside of the transaction), ``commit``, ``unlink`` (of a source): after so many of them, counted from 1.
Lots have four files.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightmill.backbone.database import Database
from nightmill.model.origin import Origin
from nightmill.operations.ingest import lots
from nightmill.operations.ingest import take_in as ingest
from nightmill.operations.ingest.placement import Mode, Placement
from nightmill.operations.site import open_site
from stagers.local import LocalStager


def die_after(owner: Any, name: str, count: int) -> None:
    """Let the process end by SIGKILL once a function was called so often."""
    call: Callable[..., Any] = getattr(owner, name)
    seen: Counter[str] = Counter()

    def called(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        seen[name] += 1
        if seen[name] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, called)


MOMENTS: dict[str, tuple[Any, str]] = {
    "upload": (Placement, "upload"),
    "sync": (LocalStager, "sync"),
    "reveal": (Placement, "reveal"),
    "link": (os, "link"),
    "settle": (LocalStager, "settle"),
    "register": (lots, "register"),
    "commit": (Database, "write"),
    "unlink": (Placement, "remove_source"),
}


def main(site: Path, folder: Path, mode: str, moment: str = "", count: str = "0") -> None:
    """Take in a folder, and die on the way."""
    ingest.LOT = 4  # type: ignore[misc]
    if moment:
        owner, name = MOMENTS[moment]
        die_after(owner, name, int(count))
    with open_site(site) as opened:
        print("ready", flush=True)
        sys.stdin.readline()
        result = ingest.ingest(opened, [folder], type="raw_science", origin=Origin.RAW, who="ada", mode=Mode(mode))
    print(len(result.registered), len(result.skipped), len(result.refused))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
