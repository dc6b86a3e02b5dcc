"""What docstrings say of parameters and errors is so; their form is looked at by `make check`."""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from itertools import chain
from types import ModuleType
from typing import Any

import pytest
from numpydoc.docscrape import NumpyDocString

from nightmill import errors

PACKAGES = ("nightmill", "stagers", "provenance", "tasks", "flows")


def modules(package: str) -> Iterator[ModuleType]:
    """Import a package and all below it, but what is a program or a revision of the schema."""
    root = importlib.import_module(package)
    yield root
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not found.name.endswith(".__main__") and ".migrations." not in found.name:
            yield importlib.import_module(found.name)


def own(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the functions, classes and methods that are written in a module, with their names."""
    for name, found in vars(module).items():
        if getattr(found, "__module__", "") == module.__name__ and (
            inspect.isfunction(found) or inspect.isclass(found)
        ):
            yield f"{module.__name__}.{name}", found
            for key, each in list(vars(found).items()) if inspect.isclass(found) else ():
                method = getattr(each, "__func__", each)
                if inspect.isfunction(method):
                    yield f"{module.__name__}.{name}.{key}", method


def is_known(error: str, module: ModuleType) -> bool:
    if "." not in error:
        return any(hasattr(place, error) for place in (module, errors, builtins))
    try:
        return inspect.isclass(pkgutil.resolve_name(error))
    except (ImportError, AttributeError):
        return False


@pytest.mark.parametrize("package", PACKAGES)
def test_parameters_and_errors_of_docstrings_are_those_of_the_code(package: str) -> None:
    wrong = []
    looked_at = 0
    for module in modules(package):
        for name, thing in own(module):
            said = NumpyDocString(inspect.getdoc(thing) or "")
            told = [parameter.name.replace("*", "").split(", ") for parameter in said["Parameters"]]
            real = list(inspect.signature(thing).parameters) if told else []
            wrong += [f"{name} has no parameter {each}" for each in chain.from_iterable(told) if each not in real]
            first = [names[0] for names in told]
            if first != sorted(first, key=lambda each: real.index(each) if each in real else -1):
                wrong.append(f"{name} has its parameters in another order than {told}")
            raised = chain.from_iterable(each.type.split(", ") for each in said["Raises"])
            wrong += [
                f"{name} raises {error}, which is not known here" for error in raised if not is_known(error, module)
            ]
            looked_at += bool(told)
    assert wrong == []
    assert looked_at
