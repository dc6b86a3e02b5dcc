"""What this host is: its operating system, kernel, processor, and the environment modules of this process."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Final

_RELEASE: Final = ("ID", "VERSION_ID", "PRETTY_NAME", "BUILD_ID", "IMAGE_VERSION")
_CPU: Final = Path("/proc/cpuinfo")
_MODEL: Final = ("model name", "CPU implementer", "CPU part", "CPU variant", "cpu")
_FLAGS: Final = ("flags", "Features")


@cache
def system() -> Mapping[str, str]:
    """Return what its operating system says of itself."""
    with suppress(OSError):
        told = platform.freedesktop_os_release()
        return {name.lower(): told[name] for name in _RELEASE if name in told}
    return {}


@cache
def kernel() -> Mapping[str, str]:
    """Return release and build of its kernel."""
    return {"release": platform.release(), "build": platform.version(), "machine": platform.machine()}


@cache
def cpu() -> Mapping[str, str]:
    """Return the model of its processor and a digest of what that is able to do; how many there are does not count."""
    try:
        first = _CPU.read_text(errors="replace").partition("\n\n")[0]
    except OSError:
        return {}
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    model = " ".join(told[name] for name in _MODEL if name in told)
    flags = next((told[name] for name in _FLAGS if name in told), "")
    digest = sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:16]
    return {name: value for name, value in (("model", model), ("flags", digest if flags else "")) if value}


def modules() -> Mapping[str, str]:
    """Return the environment modules that were loaded when this process began, to their files."""
    names, files = (os.environ.get(name, "").split(":") for name in ("LOADEDMODULES", "_LMFILES_"))
    return {name: file for name, file in zip_longest(names, files, fillvalue="") if name}
