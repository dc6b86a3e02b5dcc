"""Runs a Python function as a step: ``python -m nightmill.execution.call package.module:function JSON``."""

from __future__ import annotations

import json
import sys
from importlib import import_module


def main(target: str, arguments: str) -> None:
    """Import a function and call it with keyword arguments.

    Parameters
    ----------
    target
        ``package.module:function``.
    arguments
        A JSON object.
    """
    module, _, function = target.partition(":")
    getattr(import_module(module), function)(**json.loads(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
