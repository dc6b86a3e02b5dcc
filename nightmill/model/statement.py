"""The statement of an attempt: who made what, of what, how it was watched; signed, and chained to the one before.

It is an in-toto statement in a DSSE envelope, both as their specifications (v1) have them, so that other programs
verify it. Its subjects are the files that the attempt made.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal

from pydantic import ConfigDict, Field

from nightmill.model.base import Frozen
from nightmill.model.fate import Fate
from nightmill.model.observed import Observation
from nightmill.model.order import AttemptKey

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:nightmill:attempt:v1"
FIRST: Final = ""
"""Stands for the statement before the first of a journal."""


class Subject(Frozen):
    """A file, by its name and its digest."""

    name: str
    digest: Mapping[Literal["sha256"], str]

    @property
    def sha256(self) -> str:
        """Its checksum, hexadecimal."""
        return self.digest["sha256"]

    @classmethod
    def of(cls, name: str, digest: str) -> Subject:
        """Name a file with this checksum."""
        return cls(name=name, digest={"sha256": digest})


class SealedStep(Frozen):
    """What a step did, by the journal of its worker."""

    name: str
    argv: tuple[str, ...]
    exit_code: int | None = None
    signal: int | None = None
    software: str
    """Digest of its stack, with the libraries that it loaded where these are known."""
    observed: Observation | None = None


class Claim(Frozen):
    """What a worker claims of an attempt, at the moment at which it would publish."""

    attempt: AttemptKey
    order_sha256: str
    plan_sha256: str = ""
    bundle_sha256: str = ""
    host: str
    began_at: datetime
    sealed_at: datetime
    fate: Fate
    """That it has once its files stand in their stores."""
    failed_step: str = ""
    evidence_sha256: str = ""
    """Of what went wrong, in words; empty where nothing did."""
    inputs: tuple[Subject, ...]
    steps: tuple[SealedStep, ...]
    journal: str
    """Name of the journal whose chain it is in."""
    number: int = Field(ge=1)
    """Its place in the chain."""
    previous: str = FIRST
    """Digest of the statement before it in the chain."""


class Statement(Frozen):
    """An in-toto statement about an attempt."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(default=STATEMENT_TYPE, alias="_type")
    subject: tuple[Subject, ...]
    predicate_type: Literal["urn:nightmill:attempt:v1"] = Field(default=PREDICATE_TYPE, alias="predicateType")
    predicate: Claim


class Signature(Frozen):
    """A signature under a statement."""

    keyid: str
    """SHA-256 of the public key's 32 bytes, hexadecimal."""
    sig: str
    """Ed25519, base64."""


class Envelope(Frozen):
    """A signed payload, as DSSE has it."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    payload_type: Literal["application/vnd.in-toto+json"] = Field(default=PAYLOAD_TYPE, alias="payloadType")
    payload: str
    """The statement as JSON, base64."""
    signatures: tuple[Signature, ...] = Field(min_length=1)

    @classmethod
    def around(cls, payload: bytes, signature: bytes, keyid: str) -> Envelope:
        """Put a payload with its signature into an envelope."""
        signed = Signature(keyid=keyid, sig=b64encode(signature).decode())
        return cls(payload=b64encode(payload).decode(), signatures=(signed,))

    @classmethod
    def of_record(cls, payload: str, signature: str, keyid: str) -> Envelope:
        """Put a payload that was kept as its text into an envelope again."""
        signed = Signature(keyid=keyid, sig=signature)
        return cls(payload=b64encode(payload.encode()).decode(), signatures=(signed,))

    @property
    def message(self) -> bytes:
        """The payload's bytes.

        Raises
        ------
        ValueError
            Where it is not base64.
        """
        return b64decode(self.payload, validate=True)

    @property
    def sha256(self) -> str:
        """Digest of the payload: by it the next statement of the chain names this one."""
        return sha256(self.message).hexdigest()

    @property
    def statement(self) -> Statement:
        """What it says; nobody has looked at the signature.

        Raises
        ------
        ValueError
            Where it is not a statement about an attempt.
        """
        return Statement.model_validate_json(self.message)


def signed_bytes(payload: bytes) -> bytes:
    """Return what a signature is of: the pre-authentication encoding of DSSE."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
