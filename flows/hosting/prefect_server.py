"""Prefect's server behind :class:`flows.hosting.doors.Doors`, with its garbage collected in a thread of its own.

``python -m flows.hosting.prefect_server start ...`` takes what ``prefect server start ...`` takes.

With SQLite, a collection that happens to run in the thread of the event loop may come upon a cursor that was never
closed, and closing it waits for the lock of its connection. Where another thread has that lock while it waits for a
transaction to end that only the event loop can end, the whole server stands still for a minute, until SQLite gives up
(seen about once in ten campaigns). Any other thread may wait there without harm.
"""

from __future__ import annotations

import gc
import os
import runpy
import sys
import threading
import time
from functools import wraps
from importlib import import_module
from typing import Any

from flows.hosting.doors import HOSTS_VARIABLE, LOOPBACK, Doors

YOUNG_SECONDS = 1.0
ALL_SECONDS = 60.0


def main() -> None:
    """Run ``prefect server`` with the arguments of this process."""
    put_doors_before(import_module("prefect.server.api.server"))
    gc.disable()
    gc.collect()
    gc.freeze()  # what was imported stays, and need not be looked through each time
    threading.Thread(target=collect_for_ever, name="garbage", daemon=True).start()
    sys.argv = ["prefect", "server", *sys.argv[1:]]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


def put_doors_before(server: Any) -> None:
    """Have what Prefect's server module makes to be served stand behind doors; its own calls to itself need none."""
    create_app = server.create_app
    hosts = os.environ.get(HOSTS_VARIABLE, ",".join(LOOPBACK)).split(",")
    secret = os.environ.get("PREFECT_SERVER_API_AUTH_STRING", "")

    @wraps(create_app)
    def create_app_behind_doors(*arguments: Any, final: bool = False, **options: Any) -> Any:
        app = create_app(*arguments, final=final, **options)
        return Doors(app, hosts, secret) if final else app

    server.create_app = create_app_behind_doors


def collect_for_ever() -> None:
    """Do what the collector would do by itself, in this thread."""
    collect_all_at = time.monotonic() + ALL_SECONDS
    while True:
        time.sleep(YOUNG_SECONDS)
        if time.monotonic() < collect_all_at:
            gc.collect(1)
        else:
            gc.collect()
            collect_all_at = time.monotonic() + ALL_SECONDS


if __name__ == "__main__":
    main()
