"""Runs a Python function as a step: ``python -m nightmill.execution.call package.module:function JSON``."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from nightmill.model.layout import OUTPUTS, seen


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
    given = {name: _present(value) for name, value in json.loads(arguments).items()}
    getattr(import_module(module), function)(**given)


def _present(value: object) -> object:
    """Leave out the outputs that earlier steps were free not to make."""
    if isinstance(value, list):
        return [each for each in value if _present(each) is not None]
    absent = isinstance(value, str) and value.startswith(f"{seen(OUTPUTS)}/") and not Path(value).exists()
    return None if absent else value


if __name__ == "__main__":
    main(*sys.argv[1:])
