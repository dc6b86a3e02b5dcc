"""Sealing: a worker signs what it claims of each attempt, with a key that no step can reach, in one chain a journal."""

from __future__ import annotations

import os
import stat
from base64 import b64decode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from nightmill.errors import ConfigError
from nightmill.model.fate import Fate
from nightmill.model.journal import MadeFile
from nightmill.model.order import order_sha256
from nightmill.model.statement import FIRST, Claim, Envelope, SealedStep, Statement, Subject, signed_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from nightmill.model.report import JobReport

KEY_MODE: Final = 0o600


def make_key(path: Path, mode: int = KEY_MODE) -> None:
    """Make a private key where there is none.

    Raises
    ------
    OSError
        Where it cannot be written.
    """
    from cryptography.hazmat.primitives import serialization as texts
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem, plain = texts.Encoding.PEM, texts.NoEncryption()
    text = Ed25519PrivateKey.generate().private_bytes(pem, texts.PrivateFormat.PKCS8, plain)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, KEY_MODE), "wb") as file:  # noqa: PTH123 - with a mode
        os.fchmod(file.fileno(), mode)
        file.write(text)
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):  # of another who was faster
            os.link(new, path)
    finally:
        new.unlink()


class Key:
    """A private key of a site, as it lies in a file.

    Raises
    ------
    ConfigError
        Where the file cannot be read, everybody can read it, or it is not a private key.
    """

    def __init__(self, path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        remedy = "workers sign what they publish with it: 'nightmill init' makes one where it is missing"
        try:
            with path.open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o007:
                    why = "the signing key can be read by everybody"
                    raise ConfigError(why, where=str(path), remedy="remove it and 'nightmill init' makes another")
                key = load_pem_private_key(file.read(), None)
        except OSError as error:
            why = f"the signing key cannot be read: {error.strerror}"
            raise ConfigError(why, where=str(path), remedy=remedy) from error
        except (ValueError, TypeError) as error:
            raise ConfigError("this is not a private key without a password", where=str(path), remedy=remedy) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError("this is not an Ed25519 key", where=str(path), remedy=remedy)
        self._key: Ed25519PrivateKey = key
        self.public = key.public_key().public_bytes_raw()
        """The 32 bytes that signatures are verified with."""
        self.id = key_id(self.public)

    def sign(self, statement: Statement) -> Envelope:
        """Sign a statement."""
        payload = statement.model_dump_json().encode()
        return Envelope.around(payload, self._key.sign(signed_bytes(payload)), self.id)


def key_id(public: bytes) -> str:
    """Return the name of a public key."""
    return sha256(public).hexdigest()


def unsealed(envelope: Envelope, keys: Mapping[str, bytes]) -> str:
    """Say why a statement is not signed by one of some keys, or nothing.

    Parameters
    ----------
    keys
        Public keys by their names.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    for signature in envelope.signatures:
        if signature.keyid in keys:
            try:
                public = Ed25519PublicKey.from_public_bytes(keys[signature.keyid])
                public.verify(b64decode(signature.sig, validate=True), signed_bytes(envelope.message))
            except (InvalidSignature, ValueError):
                return f"the signature of key {signature.keyid[:12]} is not of these bytes"
            return ""
    return f"key {envelope.signatures[0].keyid[:12]}, which signed it, is not a key of the site"


class Chain:
    """The statements of one journal, each of which names the one before; safe for use by several threads."""

    def __init__(self, journal: str, key: Key) -> None:
        self._journal, self._key = journal, key
        self._lock = Lock()
        self._number, self._previous = 0, FIRST

    def add(
        self,
        report: JobReport,
        files: Sequence[MadeFile],
        fate: Fate,
        step: str,
        evidence: str,
        *,
        now: datetime,
        tell: Callable[[Envelope], None],
    ) -> None:
        """Sign what an attempt is about to publish, and tell it before the next one is signed.

        Parameters
        ----------
        report
            What its journal tells of it so far.
        files
            What it publishes.
        fate, step, evidence
            How it ends once that stands.
        """
        order = report.order
        made = {file.name: file.sha256 for file in (report.made if fate is Fate.PUBLISHED else ())}
        made |= {file.name: file.sha256 for file in files}
        read = {file.name: file.sha256 for file in order.inputs} | {file.recorded: file.sha256 for file in order.taken}
        with self._lock:
            envelope = self._key.sign(
                Statement(
                    subject=tuple([Subject.of(name, digest) for name, digest in made.items()]),
                    predicate=Claim(
                        attempt=report.attempt,
                        order_sha256=order_sha256(order),
                        plan_sha256=order.plan_sha256,
                        bundle_sha256=order.bundle.digest if order.bundle else "",
                        host=report.host,
                        began_at=report.began_at,
                        sealed_at=now,
                        fate=fate,
                        failed_step=step,
                        evidence_sha256=sha256(evidence.encode()).hexdigest() if evidence else "",
                        inputs=tuple([Subject.of(name, digest) for name, digest in read.items()]),
                        steps=tuple(
                            [
                                SealedStep(
                                    name=step.name,
                                    argv=step.argv,
                                    exit_code=step.exit_code,
                                    signal=step.signal,
                                    software=step.known_software,
                                    observed=step.observed,
                                )
                                for step in report.steps
                            ]
                        ),
                        journal=self._journal,
                        number=self._number + 1,
                        previous=self._previous,
                    ),
                )
            )
            tell(envelope)
            self._number, self._previous = self._number + 1, envelope.sha256
