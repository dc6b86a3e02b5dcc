"""What a Python says of itself and its packages.

It is carried out by that Python, whichever it is from 3.8 on, and needs nothing but the standard library there.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from importlib.metadata import Distribution, distributions
from urllib.parse import unquote, urlparse

MOST_FILES = 20000
"""Of the files of an editable package: one with more is not looked at."""
OTHERS = ("pyvenv.cfg", "nightmill.yaml")
"""Files of folders that are no part of a package, whatever they lie in."""
CODE = (".py", ".pyx", ".so", ".pyd", ".c", ".h", ".f", ".f90", ".cpp", ".toml", ".cfg")


def of_files(folder: str) -> str:
    """Return a digest of the code in a folder; hidden folders, environments and sites of nightmill are left out."""
    digest, count = hashlib.sha256(), 0
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith((".", "__pycache__"))
            and not any(os.path.exists(os.path.join(above, name, mark)) for mark in OTHERS)
        )
        for name in sorted(names):
            if name.endswith(CODE):
                count += 1
                if count > MOST_FILES:
                    return f"unknown: more than {MOST_FILES} files"
                path = os.path.join(above, name)
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
                digest.update(f"{os.path.relpath(path, folder)} {content}\n".encode("utf-8", "surrogateescape"))
    return f"sha256:{digest.hexdigest()}"


def origin(distribution: Distribution) -> str:
    """Say what a package is, where its version does not tell it: it did not come from an index."""
    text = distribution.read_text("direct_url.json")
    if not text:
        return ""
    told = json.loads(text)
    if "vcs_info" in told:
        return f" (commit {told['vcs_info'].get('commit_id', 'unknown')})"
    if told.get("dir_info", {}).get("editable"):
        return f" (editable, {of_files(unquote(urlparse(told['url']).path))})"
    record = distribution.read_text("RECORD") or ""
    lines = sorted(line for line in record.splitlines() if ".dist-info/" not in line and "sha256=" in line)
    digest = hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape"))
    return f" (local, sha256:{digest.hexdigest()})"


def named(distribution: Distribution) -> tuple[str, str]:
    """Return name and version of a package; reading them by hand takes a tenth of the time."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            break
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    return re.sub("[-_.]+", "-", fields.get("name", "")).lower(), fields.get("version", "unknown")


def main() -> None:
    """Print it as JSON."""
    found: dict[str, str] = {}
    for each in distributions():
        name, version = named(each)
        if name and name not in found:  # the first of a name is the one that is imported
            try:
                found[name] = version + origin(each)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                found[name] = f"{version} (unknown: {error})"
    told = {
        "interpreter": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "build": " ".join(platform.python_build()),
        },
        "distributions": found,
        "folders": [path for path in sys.path if os.path.isdir(path) and path != os.getcwd()],
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
