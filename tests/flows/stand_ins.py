"""Flows that stand in for the real ones, where it is the runner that is tested."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
from prefect import flow, get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings


@flow(name="note")
def note(file: str, text: str = "done", seconds: float = 0.0) -> None:
    """Say which process this is, wait, and say ``text``."""
    target = Path(file)
    target.write_text(f"{os.getpid()}\n")
    time.sleep(seconds)
    target.write_text(f"{os.getpid()}\n{text}\n")


@flow(name="heartbeat")
def heartbeat(file: str) -> None:
    """Say how often the engine tells that this flow run is alive."""
    Path(file).write_text(str(PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()))


@flow(name="vanish")
def vanish(code: int) -> None:
    """End the process without a word."""
    os._exit(code)


@flow(name="with-child")
def with_child(file: str) -> None:
    """Start a process that does not stop on SIGTERM, and wait for it."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]
    )
    Path(file).write_text(f"{child.pid}\n")
    child.wait()


@flow(name="waits-for-slices")
def waits_for_slices(file: str) -> None:
    """Submit two runs of ``note`` and wait for them, as a campaign does for its slices."""
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("note/note")
        runs = [
            client.create_flow_run_from_deployment(deployment.id, parameters={"file": f"{file}.{number}"})
            for number in range(2)
        ]
        for run in runs:
            while not (state := client.read_flow_run(run.id).state) or not state.is_final():
                time.sleep(0.2)
    Path(file).write_text("all done\n")


@flow(name="asks-often")
def asks_often(file: str) -> None:
    """Ask the server again and again, each time by a new connection, and note that; until ``FILE.stop`` is there."""
    while not Path(f"{file}.stop").exists():
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
                told = str(client.hello().status_code)
        except httpx.HTTPError as error:
            told = type(error).__name__
        with Path(file).open("a") as notes:
            notes.write(f"{told}\n")
        time.sleep(0.2)
