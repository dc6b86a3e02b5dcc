"""What lies where in the scratch of a job: its folders, and how a step reaches them from where it runs."""

from __future__ import annotations

from typing import Final

INPUTS: Final = "inputs"
"""The pre-flight list, read-only."""
WORK: Final = "work"
"""Where a step runs; empty when it begins."""
OUTPUTS: Final = "outputs"
"""What passed the gate, read-only; inputs of later steps."""
LEFT: Final = "left"
"""What steps made and did not declare: no later step finds it."""
FILES: Final = "files"
"""What is written for a step before it begins: lists and configuration. There for those alone that have some."""
TMP: Final = "tmp"
"""TMPDIR and HOME of a step; empty when it begins."""
BUNDLE: Final = "bundle"
"""The pipeline's folder as it was at submit, read-only: a link to where the host keeps it."""
SIDECAR: Final = "sidecar.jsonl"
"""What a step tells, where it tells anything; beside its working folder, a new one for each step."""
INDEX: Final = "index.json"
"""Which files a step may read, by role and data ID, and what it is to make; written before each step, read-only."""
FOLDERS: Final = (INPUTS, WORK, OUTPUTS, LEFT, TMP)
LOG: Final = "log"
"""Stdout and stderr of all steps."""
ORDER: Final = "order.json"
"""The order, for whoever looks into the scratch."""
RULES: Final = "rules"
"""By what a step in an image confines itself, where its runtime can be given them no other way."""

MADE: Final = "made.json"
"""In a scratch that is kept: the steps that were done, and by roles the names of what they made."""


def seen(folder: str, name: str = "") -> str:
    """Return the path by which a step reaches a part of the scratch, or a file in it, from its working folder."""
    return f"../{folder}/{name}" if name else f"../{folder}"
