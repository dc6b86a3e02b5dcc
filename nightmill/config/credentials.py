"""The credentials of a site, as its nightmill.yaml says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from nightmill.config.document import Document, Key, dotted
from nightmill.errors import ConfigError
from nightmill.model.credential import Credential, CredentialKind

_KEYS: Final[Mapping[CredentialKind, tuple[tuple[str, ...], bool]]] = {
    CredentialKind.KERBEROS: (("file",), False),
    CredentialKind.AFS: ((), False),
    CredentialKind.X509: (("file",), True),
    CredentialKind.TOKEN: (("file", "secret"), True),
    CredentialKind.SESSION: (("file",), True),
    CredentialKind.COMMAND: (("command",), True),
    CredentialKind.FILE: (("file",), True),
}
"""The keys of each kind that say where it is, and whether it needs one of them."""


def check_credentials(credentials: Sequence[Credential], document: Document, errors: list[ConfigError]) -> None:
    """Add everything that is wrong with them, beside what their type says, to errors."""
    names: set[str] = set()
    for number, credential in enumerate(credentials):
        key: Key = ("credentials", number)
        known, needed = _KEYS[credential.kind]
        given = [name for name in ("file", "secret", "command") if getattr(credential, name)]
        told = []
        if credential.name in names:
            told.append(f"{credential.name!r} stands there twice")
        if strange := [name for name in given if name not in known]:
            told.append(f"kind {credential.kind} does not have {strange[0]!r}")
        elif needed and len(given) != 1:
            told.append(f"kind {credential.kind} needs {' or '.join(map(repr, known))}{', not both' if given else ''}")
        errors += [ConfigError(f"{dotted(key)}: {text}", where=document.where(key)) for text in told]
        names.add(credential.name)
