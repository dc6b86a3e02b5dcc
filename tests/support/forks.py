"""Processes for tests, forked from one that has imported what they need: 0.01 s each, where a new one costs 0.8 s."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import Final

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["pytest", "stagers.sftp", "tests.support.victim"])
END_SECONDS: Final = 1200.0


def forked(function: Callable[..., None], *arguments: object) -> int:
    """Call a function of an importable module in a process of its own, and return how that ended.

    Returns
    -------
    int
        Its exit code; negative for a signal. What it prints goes nowhere.
    """
    process = _FORKS.Process(target=_in_silence, args=(function, arguments))
    process.start()
    process.join(END_SECONDS)
    try:
        assert process.exitcode is not None, f"{function.__name__} did not end within {END_SECONDS:.0f} s"
        return process.exitcode
    finally:
        process.kill()
        process.join()
        process.close()


def _in_silence(function: Callable[..., None], arguments: Sequence[object]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)
    function(*arguments)
