"""What failures mean: of the scratch, which are the disk's or a step's, and of several at once."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final

from nightmill.errors import JobFailed, RequestRefused
from nightmill.model.fate import Fate

HANDS_OFF: Final = "a step may change what is in its working folder and its TMPDIR, and nothing else"

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_BY_A_STEP: Final = frozenset(
    {
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY, errno.EACCES,
        errno.EPERM, errno.EXDEV, errno.EBUSY,
    }
)  # fmt: skip
"""What no disk says of folders that nightmill made itself a moment ago."""


def scratch_failed(error: OSError, step: str = "", *, place: str = "scratch") -> JobFailed:
    """Say what an error of the scratch, or of the cache, means for an attempt.

    Parameters
    ----------
    step
        The step that has just run there; empty where none has.
    """
    what = f"{error.filename or 'write'}: {error.strerror}"
    if step and error.errno in _BY_A_STEP:
        return JobFailed(
            f"step {step!r} left its scratch so that it cannot be used: {what}",
            fate=Fate.BAD_OUTPUT,
            step=step,
            remedy=HANDS_OFF,
        )
    full = error.errno in _FULL
    return JobFailed(
        f"the {place} cannot be used: {what}",
        fate=Fate.NO_SPACE if full else Fate.STORE_ERROR,
        remedy="make room, then rerun" if full else f"mend the {place} disk, then rerun",
    )


def refused(step: str, error: RequestRefused) -> JobFailed:
    """Say what a refusal of this host means for an attempt whose step it is to start."""
    return JobFailed(
        f"step {step!r} cannot be started: {error.message}",
        fate=Fate.STEP_NOT_STARTED,
        step=step,
        remedy=error.remedy,
    )


def together(failures: Sequence[JobFailed]) -> JobFailed:
    """Return the first of several failures, which tells of the others as well."""
    first, *others = failures
    if not others:
        return first
    told = "".join(f"; and {failure.message}" for failure in others)
    return JobFailed(f"{first.message}{told}", fate=first.fate, step=first.step, remedy=first.remedy)
