"""Documents of error rules: what a site is taught of its failures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nightmill.config.build import build, named, raise_all
from nightmill.config.document import load_document
from nightmill.errors import ConfigError, ConfigErrors
from nightmill.model.base import Frozen
from nightmill.model.error_rule import ErrorRule


class ErrorsFile(Frozen):
    """Rules by the names of their errors."""

    errors: Mapping[str, Any]
    """Each what :class:`~nightmill.model.error_rule.ErrorRule` has, but for its name."""


def load_error_rules(path: Path) -> list[ErrorRule]:
    """Load a document of rules, in its order.

    Raises
    ------
    ConfigErrors
        Everything that is wrong, each with its place, key and a guess of what was meant.
    ConfigError
        Where it cannot be read, or has no rule.
    """
    document = load_document(path)
    rules, wrong = [], []
    for name, body in build(ErrorsFile, document.data, document.where).errors.items():
        key = ("errors", name)
        try:
            rule = named(name, body, key, document.where)
            rules.append(build(ErrorRule, rule, document.where, written=rule, prefix=key))
        except (ConfigError, ConfigErrors) as error:
            wrong.append(error)
    raise_all(wrong)
    if not rules:
        raise ConfigError("errors has no rule", where=document.where(("errors",)), remedy="write NAME: {says: ...}")
    return rules
