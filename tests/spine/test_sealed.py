"""What workers sign: a statement an attempt, chained, on record, and compared with record and bytes."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.schema import (
    AttemptRow,
    ChainRow,
    DifferenceRow,
    ExecutionRow,
    FileRow,
    InputUseRow,
    PlannedInputRow,
    SigningKeyRow,
    StatementRow,
)
from nightmill.cli import main
from nightmill.errors import ConfigError
from nightmill.execution.journal import journals, read_journal
from nightmill.execution.sealing import Key, make_key
from nightmill.execution.worker import Worker
from nightmill.model.journal import Done, Publishing, Sealed
from nightmill.model.order import JobOrder, order_sha256
from nightmill.model.report import JobReport
from nightmill.operations.belonging import judge
from nightmill.operations.drain import drain
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from tests.support.backbone import NOW, issue
from tests.support.orders import Bench, output, shell

Verify = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a bench in the folder of the site."""
    return Bench(tmp_path / "site")


@pytest.fixture
def site(bench: Bench, database_url: str) -> Iterator[Site]:
    """Give a site whose stores, scratch and spool are the bench's, and which had its key before all else."""
    with make_site(bench.root, database=database_url) as site:
        site.database.write(lambda session: session.execute(update(SigningKeyRow).values(added_at=NOW)))
        yield site


@pytest.fixture
def verify(site: Site, capsys: pytest.CaptureFixture[str]) -> Verify:
    """Give what calls 'nightmill verify', and returns its exit code and what it printed."""

    def call(name: str = "night1", *options: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["verify", name, "--site", str(site.config.directory), "--json", *options])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(out) if out else None, err

    return call


def order_of(bench: Bench, unit: int, *, fails: bool = False) -> JobOrder:
    frame = bench.put("frame.fits", b"light")
    script = "cat ../inputs/frame.fits; " + ("exit 3" if fails else f"echo {unit} | tee more > cat{unit}.txt")
    step = shell("detect", script, output("catalog", f"cat{unit}.txt"), inputs=("frame.fits",))
    return bench.order(step, inputs=(frame,), unit=f"exposure={unit}")


def carry_out(site: Site, *orders: JobOrder) -> list[JobReport]:
    """Issue orders, carry them out as the site's workers do, and record them."""
    site.database.write(lambda session: issue(session, *orders))
    site.database.write(_plan_inputs)
    with Worker(site.profile, site.stagers) as worker:
        reports = list(worker.run(orders))
    drain(site)
    return reports


def _plan_inputs(session: Session) -> None:
    frame_id = session.scalars(select(FileRow.id).where(FileRow.name == "frame.fits")).one()
    planned = {"step": "detect", "role": "frame", "file_id": frame_id, "rule": "of the unit", "origin": "pipeline"}
    known = select(PlannedInputRow.attempt_id)
    for attempt_id in session.scalars(select(AttemptRow.id).where(AttemptRow.id.not_in(known))):
        session.add(PlannedInputRow(attempt_id=attempt_id, **planned))


def change(site: Site, statement: Any) -> None:
    site.database.write(lambda session: session.execute(statement))


def test_what_was_done_is_signed_and_verified_without_a_journal(site: Site, bench: Bench, verify: Verify) -> None:
    reports = carry_out(site, *(order_of(bench, unit, fails=unit == 2) for unit in (1, 2, 3)))
    rmtree(site.config.spool)
    code, found, err = verify()
    assert (code, err) == (0, "")
    assert found == {
        "attempts": 3, "signed": 3, "before": 0, "files": 5, "copies": 5, "unread": [], "wrong": [],
    }  # fmt: skip
    assert verify("cat1.txt")[1]["copies"] == 1
    statement = reports[0].sealed.statement  # type: ignore[union-attr]
    claim = statement.predicate
    assert {file.name: file.sha256 for file in statement.subject} == {
        file.name: file.sha256 for file in reports[0].published
    }
    assert [(file.name, file.sha256) for file in claim.inputs] == [("frame.fits", sha256(b"light").hexdigest())]
    assert [(step.name, step.exit_code) for step in claim.steps] == [("detect", 0)]
    assert claim.order_sha256 == order_sha256(reports[0].order)
    assert [report.sealed.statement.predicate.number for report in reports if report.sealed] == [1, 2, 3]
    fates = [report.sealed.statement.predicate.fate for report in reports if report.sealed]
    assert fates == ["published", "step_failed", "published"]


def test_other_programs_can_verify_it(site: Site, bench: Bench) -> None:
    (report,) = carry_out(site, order_of(bench, 1))
    assert report.sealed is not None
    envelope = json.loads(report.sealed.model_dump_json())
    assert sorted(envelope) == ["payload", "payloadType", "signatures"]
    statement = json.loads(report.sealed.message)
    assert sorted(statement) == ["_type", "predicate", "predicateType", "subject"]
    private = load_pem_private_key(site.signing_key.read_bytes(), None)
    assert isinstance(private, Ed25519PrivateKey)
    kind, message = b"application/vnd.in-toto+json", report.sealed.message
    encoded = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(message)).encode(), message])
    assert b64encode(private.sign(encoded)).decode() == envelope["signatures"][0]["sig"]
    assert site.signing_key.stat().st_mode & 0o777 == 0o600


CHANGES = {
    "digest": (
        update(FileRow).where(FileRow.name == "cat1.txt").values(sha256="a" * 64),
        "cat1.txt was signed with SHA-256",
    ),
    "order": (update(AttemptRow).values(order_sha256="b" * 64), "another order than it was issued with"),
    "argv": (update(ExecutionRow).values(argv=["rm"]), "'detect' was signed with another command line"),
    "exit": (update(ExecutionRow).values(exit_code=0), "signed with exit code 3, and is on record with 0"),
    "host": (update(ExecutionRow).values(host="elsewhere"), "and is on record with 'elsewhere'"),
    "level": (update(ExecutionRow).values(level="audit"), "level 'standard', and is on record with 'audit'"),
    "witness": (update(ExecutionRow).values(witness=""), "signed with witness 'inotify', and is on record with ''"),
    "opened": (
        update(InputUseRow).values(opened=False),
        "frame.fits opened: true, contributed: unknown, and is on record with it opened: false, contributed: unknown",
    ),
    "left out": (
        update(InputUseRow).values(contributed=False, reason="clouds"),
        "is on record with it opened: true, contributed: false (clouds)",
    ),
    "unused": (delete(InputUseRow), "planned to read frame.fits as frame, and the record does not say that it used it"),
    "not planned": (update(InputUseRow).values(planned=False), "the record does not say that it used it"),
    "difference": (delete(DifferenceRow), "other differences between plan, witness and word than are on record"),
    "payload": (
        update(StatementRow).where(StatementRow.number == 1).values(payload="{}"),
        "is not of these bytes",
    ),
    "key": (update(StatementRow).values(keyid="c" * 64), "is not a key of the site"),
    "gone": (delete(StatementRow).where(StatementRow.number == 2), "statement 2 of journal"),
    "unsigned": (delete(StatementRow), "nothing that its worker signed is on record"),
    "chain": (
        update(StatementRow).where(StatementRow.number == 2).values(previous_sha256="d" * 64),
        "does not follow statement 1",
    ),
    "head": (update(ChainRow).values(head_sha256="e" * 64), "ends with another statement than is on record"),
    "cut": (update(ChainRow).values(length=7), "statement 4 of journal"),
    "renamed": (
        update(FileRow).where(FileRow.name == "cat1.txt").values(name="cat9.txt"),
        "cat9.txt is on record as made by it, and was not signed",
    ),
}


@pytest.mark.parametrize("change_it", CHANGES)
def test_a_record_that_was_changed_is_told(site: Site, bench: Bench, verify: Verify, change_it: str) -> None:
    statement, why = CHANGES[change_it]
    carry_out(site, *(order_of(bench, unit, fails=unit == 2) for unit in (1, 2, 3)))
    change(site, statement)
    code, found, err = verify("night1", "--no-bytes")
    assert code == 1
    assert any(why in each["why"] for each in found["wrong"]), found["wrong"]
    assert f"wrong: {found['wrong'][0]['what']}: " in err


def test_bytes_that_were_changed_or_are_gone_are_told(site: Site, bench: Bench, verify: Verify) -> None:
    carry_out(site, order_of(bench, 1), order_of(bench, 2))
    first, second = (next(bench.root.glob(f"stores/backbone/**/cat{unit}.txt")) for unit in (1, 2))
    first.chmod(0o600)
    first.write_text("9\n")
    second.unlink()
    code, found, _err = verify()
    assert code == 1
    assert [(each["what"], each["why"].partition(" ")[2][:16]) for each in found["wrong"]] == [
        ("cat1.txt", "has SHA-256 " + sha256(b"9\n").hexdigest()[:4]),
        ("cat2.txt", "is not there"),
    ]
    assert verify("night1", "--no-bytes")[0] == 0


def test_a_database_that_lies_with_its_own_key_is_told_by_the_statements_of_before(
    site: Site, bench: Bench, verify: Verify
) -> None:
    """Whoever changes the database alone cannot sign: a key that is put there is none that a site's statements have."""
    carry_out(site, order_of(bench, 1))
    change(site, update(SigningKeyRow).values(public_key=b64encode(bytes(32)).decode()))
    assert "is not of these bytes" in verify()[1]["wrong"][0]["why"]


@pytest.mark.req("X35")
@pytest.mark.parametrize("how", ["other key", "other file", "other attempt", "nonsense"])
def test_a_journal_whose_seal_is_forged_registers_nothing(
    site: Site, bench: Bench, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = [order_of(bench, 1), order_of(bench, 2)]
    site.database.write(lambda session: issue(session, *orders))
    profile = site.profile
    if how == "other key":
        make_key(tmp_path / "mine.key")
        profile = profile.model_copy(update={"signing_key": tmp_path / "mine.key"})
    with Worker(profile, site.stagers) as worker:
        list(worker.run(orders))
    (path,) = journals(site.config.spool)
    if how != "other key":
        _forge(path, how)
    drained = drain(site)
    assert len(drained.recorded.published) == (0 if how == "other key" else 1)
    with site.database.reading() as session:
        assert "cat1.txt" not in session.scalars(select(FileRow.name)).all()
    misfits = judge(site, read_journal(path), {}).misfits
    assert any(why in next(iter(misfits.values())) for why in WHY[how]), misfits


WHY = {
    "other key": ("is not a key of the site",),
    "other file": ("is told with other bytes than its worker signed",),
    "other attempt": ("its statement is about night1/science/exposure=2/a01",),
    "nonsense": ("is not a statement about an attempt",),
}


def _forge(path: Path, how: str) -> None:
    """Change what a journal tells of its first attempt."""
    header, *lines = path.read_text().splitlines()
    entries = read_journal(path).entries
    sealed = [entry for entry in entries if isinstance(entry, Sealed)]
    for place, entry in enumerate(entries):
        if not isinstance(entry, (Sealed, Publishing, Done)) or entry.attempt != sealed[0].attempt:
            continue
        if how == "other file" and isinstance(entry, Publishing):
            files = [file.model_copy(update={"sha256": "f" * 64}) for file in entry.files]
            lines[place] = entry.model_copy(update={"files": tuple(files)}).model_dump_json()
        elif how == "other attempt" and isinstance(entry, Sealed):
            lines[place] = entry.model_copy(update={"envelope": sealed[1].envelope}).model_dump_json()
        elif how == "nonsense" and isinstance(entry, Sealed):
            nonsense = entry.envelope.model_copy(update={"payload": b64encode(b"{}").decode()})
            lines[place] = entry.model_copy(update={"envelope": nonsense}).model_dump_json()
    path.write_text("\n".join([header, *lines]) + "\n")


def test_a_key_that_is_not_fit_is_refused_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    with pytest.raises(ConfigError, match=r"signing.key: the signing key cannot be read: No such .*nightmill init"):
        Key(path)
    path.write_text("hello")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="this is not a private key without a password"):
        Key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="the signing key can be read by everybody; remove it"):
        Key(path)
    path.unlink()
    make_key(path)
    first = Key(path).id
    make_key(path)
    assert Key(path).id == first
    assert [each.name for each in tmp_path.iterdir()] == ["signing.key"]


def test_a_site_of_before_signs_once_it_has_its_key(site: Site, bench: Bench, verify: Verify) -> None:
    key = site.signing_key.read_bytes()
    site.signing_key.unlink()
    carry_out(site, order_of(bench, 1))
    change(site, update(SigningKeyRow).values(added_at=NOW.replace(year=2027)))
    assert verify()[:2] == (
        0, {"attempts": 1, "signed": 0, "before": 1, "files": 2, "copies": 2, "unread": [], "wrong": []},
    )  # fmt: skip
    site.signing_key.write_bytes(key)
    site.signing_key.chmod(0o600)
    carry_out(site, order_of(bench, 2))
    assert (verify()[1]["signed"], verify()[1]["before"]) == (1, 1)


def test_what_an_audited_step_loaded_is_signed_with_its_software(site: Site, bench: Bench, verify: Verify) -> None:
    (report,) = carry_out(site, order_of(bench, 1).model_copy(update={"level": "audit"}))
    assert report.steps[0].known_software != report.steps[0].software
    assert verify()[:2] == (
        0, {"attempts": 1, "signed": 1, "before": 0, "files": 2, "copies": 2, "unread": [], "wrong": []},
    )  # fmt: skip
