"""Credentials: how long each kind lives, and nothing begins where one that is required lets nobody in."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from nightmill.config.campaign import load_campaign
from nightmill.config.site import load_site
from nightmill.model.credential import Credential, CredentialKind, Life
from nightmill.operations.costs import seconds_left
from nightmill.operations.credentials import CredentialsLacking, lives, require, short, told
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill, nightmill
from tests.config.documents import refusals
from tests.examples.programs import needs
from tests.support.observatory import Observatory

__all__ = ["nightmill"]

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def jwt(**claims: object) -> str:
    """Make a JSON Web Token whose signature nobody checks here."""
    parts = (json.dumps({"alg": "none"}), json.dumps(claims), "signature")
    return ".".join(urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


def ticket_cache(path: Path, ends_at: float) -> None:
    """Write a ticket cache of MIT Kerberos, version 4, with a ticket for tickets."""

    def data(value: bytes) -> bytes:
        return struct.pack(">I", len(value)) + value

    def principal(*parts: bytes) -> bytes:
        return struct.pack(">II", 1, len(parts)) + b"".join(map(data, (b"OBS.EXAMPLE", *parts)))

    ada, now = principal(b"ada"), int(time.time())
    key, times = struct.pack(">HI", 18, 32) + bytes(32), struct.pack(">IIII", now, now, int(ends_at), 0)
    ticket = ada + principal(b"krbtgt", b"OBS.EXAMPLE") + key + times + b"\0" + bytes(4 + 8) + data(b"t") + data(b"")
    path.write_bytes(b"\x05\x04\0\0" + ada + ticket)


def program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([f"#!{sys.executable}", *lines]))
    path.chmod(0o755)
    return path


def say(site: Path, *credentials: dict[str, object]) -> None:
    """Have a site have these credentials."""
    file = site / "nightmill.yaml"
    before = file.read_text().partition("credentials:")[0]
    file.write_text(f"{before.rstrip()}\ncredentials: {json.dumps(credentials)}\n")


def life(site: Site, now: datetime | None = None, **credential: object) -> Life:
    say(site.config.directory, {"name": "c", **credential})
    [found] = lives(load_site(site.config.directory), now)
    return found


def left(found: Life) -> timedelta:
    assert found.ends_at is not None, found.lacking
    return found.ends_at - datetime.now(UTC)


# --------------------------------------------------------------------------------------- how long each kind lives


def proxy(path: Path, ends_at: datetime) -> Path:
    """Make a certificate that ends then, with its key beside it as proxies have it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ada")])
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), ends_at - 48 * HOUR, ends_at
    )
    signed = made.sign(key, hashes.SHA256())
    path.write_bytes(
        signed.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


def test_of_certificates_in_a_file_the_one_that_ends_first_counts(lite_site: Site, tmp_path: Path) -> None:
    first, second = (proxy(tmp_path / f"{hours}", NOW + hours * HOUR).read_bytes() for hours in (100, 1))
    (tmp_path / "both.pem").write_bytes(first + second)
    assert life(lite_site, NOW, kind="x509", file=str(tmp_path / "both.pem")).ends_at == NOW + HOUR
    found = life(lite_site, NOW + 2 * HOUR, kind="x509", file=str(tmp_path / "both.pem"))
    assert found.lacking == "it ended at 2026-01-10 13:00:00 UTC"


def test_a_certificate_of_openssl(lite_site: Site, tmp_path: Path) -> None:
    needs("openssl")
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ada", "-days", "1"]
    argv += ["-keyout", f"{tmp_path}/key.pem", "-out", f"{tmp_path}/day.pem"]
    subprocess.run(argv, check=True, capture_output=True)
    assert timedelta(hours=23) < left(life(lite_site, kind="x509", file=str(tmp_path / "day.pem"))) <= 24 * HOUR
    assert "no certificate" in life(lite_site, kind="x509", file=str(tmp_path / "key.pem")).lacking


def test_a_ticket_cache_as_klist_reads_it(lite_site: Site, tmp_path: Path) -> None:
    needs("klist")
    cache = tmp_path / "cache"
    ticket_cache(cache, time.time() + 3600)
    assert timedelta(minutes=59) < left(life(lite_site, kind="kerberos", file=str(cache))) <= HOUR
    assert timedelta(minutes=59) < left(life(lite_site, kind="kerberos", file=f"FILE:{cache}")) <= HOUR
    ticket_cache(cache, time.time() - 60)
    assert life(lite_site, kind="kerberos", file=str(cache)).lacking.startswith("it ended at 20")
    cache.unlink()
    found = life(lite_site, kind="kerberos", file=str(cache))
    assert found.lacking == "its ticket is missing ('klist' ended with exit code 1)"


def test_tokens_of_afs(lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of the test prints what OpenAFS documents of its own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "'tokens' cannot be started on this host: No such file" in life(lite_site, kind="afs").lacking
    late = "User's (AFS ID 1000) tokens for afs@obs.org [Expires Jan 11 01:30]"

    def tokens(*lines: str) -> Life:
        printed = ["Tokens held by the Cache Manager:", "", *lines]
        program(tmp_path / "tokens", *(f"print({line!r})" for line in printed))
        return life(lite_site, NOW, kind="afs")

    assert tokens(late).ends_at == datetime(2026, 1, 11, 1, 30, tzinfo=UTC)
    assert tokens(late, "Tokens for afs@b [Expires Jan 10 14:00]").ends_at == datetime(2026, 1, 10, 14, tzinfo=UTC)
    assert tokens("User's (AFS ID 1) tokens for afs@obs.org [>> Expired <<]").lacking == "a token has ended"
    assert tokens("   --End of list--").lacking == "a token of a cell is missing"
    assert tokens("Tokens for afs@b [Expires Dec 31 23:00]").lacking == "it ended at 2025-12-31 23:00:00 UTC"


def test_tokens_tell_by_their_claims_and_opaque_ones_do_not(
    lite_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = (NOW + HOUR).timestamp()
    (tmp_path / "token").write_text(f"{jwt(exp=end)}\n")
    assert life(lite_site, NOW, kind="token", file=str(tmp_path / "token")).ends_at == NOW + HOUR
    for text in ("opaque", jwt(sub="ada"), "a.b.c", jwt(exp="never"), jwt(exp=float("inf"))):
        (tmp_path / "token").write_text(text)
        found = life(lite_site, NOW, kind="token", file=str(tmp_path / "token"))
        assert (found.ends_at, found.lacking) == (None, ""), text
    monkeypatch.setenv("GATE", jwt(exp=end))
    assert life(lite_site, NOW, kind="token", secret="GATE").ends_at == NOW + HOUR
    assert life(lite_site, NOW, kind="token", secret="NONE").lacking.startswith("NONE is not set, neither among")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"Credentials": {"AccessKeyId": "x", "Expiration": "2026-01-10T13:00:00Z"}}),
        json.dumps([{"expires_at": (NOW + HOUR).timestamp()}, {"expiresAt": "2026-01-10T20:00:00+01:00"}]),
        json.dumps({"expiry": (NOW + HOUR).timestamp() * 1000}),
        "[default]\naws_access_key_id = x\nx_security_token_expires = 2026-01-10T13:00:00+00:00\n",
    ],
)
def test_session_credentials_say_when_they_end(lite_site: Site, tmp_path: Path, text: str) -> None:
    (tmp_path / "session").write_text(text)
    assert life(lite_site, NOW, kind="session", file=str(tmp_path / "session")).ends_at == NOW + HOUR


def test_a_command_prints_how_many_seconds_are_left_and_nothing_else_of_it_is_told(
    lite_site: Site, tmp_path: Path
) -> None:
    def of(*lines: str) -> Life:
        return life(lite_site, NOW, kind="command", command=[str(program(tmp_path / "left", *lines))])

    assert of("print(3600, 'seconds')").ends_at == NOW + HOUR
    failed = of("import sys", "print('hunter2', file=sys.stderr)", "sys.exit(3)")
    assert "ended with exit code 3" in failed.lacking
    assert "hunter2" not in f"{failed} {told(failed)}"
    assert of("print('hunter2')").lacking == "what it prints does not begin with a number of seconds"
    assert of("print(0)").lacking == "it ended at 2026-01-10 12:00:00 UTC"
    found = life(lite_site, NOW, kind="command", command=["no-such-program"])
    assert found.lacking == "'no-such-program' cannot be started on this host: No such file or directory"


def test_a_file_is_there_or_is_not(lite_site: Site, tmp_path: Path) -> None:
    file = tmp_path / "key"
    assert life(lite_site, kind="file", file=str(file)).lacking == "it is not there"
    file.touch()
    assert life(lite_site, kind="file", file=str(file)).lacking == "it is empty"
    file.write_text("hunter2")
    found = life(lite_site, kind="file", file=str(file))
    assert told(found) == (True, f"file, {file}: it is there; how long it lives is not known")


@pytest.mark.parametrize(
    ("credential", "message"),
    [
        ({"name": "a", "kind": "x509"}, "credentials[0]: kind x509 needs 'file'"),
        ({"name": "a", "kind": "token"}, "credentials[0]: kind token needs 'file' or 'secret'"),
        ({"name": "a", "kind": "token", "file": "f", "secret": "s"}, "needs 'file' or 'secret', not both"),
        ({"name": "a", "kind": "afs", "file": "f"}, "credentials[0]: kind afs does not have 'file'"),
        ({"name": "a", "kind": "kerberos5"}, "credentials[0].kind is 'kerberos5' and should be"),
        ({"name": "a", "kind": "file", "fil": "f"}, "unknown key credentials[0].fil (did you mean 'file'?)"),
    ],
)
def test_mistakes_are_told_with_their_place(lite_site: Site, credential: dict[str, object], message: str) -> None:
    say(lite_site.config.directory, credential)
    [problem] = refusals(load_site, lite_site.config.directory)
    assert message in problem


def test_a_name_stands_there_once(lite_site: Site) -> None:
    say(lite_site.config.directory, {"name": "a", "kind": "afs"}, {"name": "a", "kind": "kerberos"})
    [problem] = refusals(load_site, lite_site.config.directory)
    assert "credentials[1]: 'a' stands there twice" in problem


# ------------------------------------------------------------------------------------------------- doctor


def test_doctor_shows_each_with_the_life_that_it_has(
    lite_site: Site, tmp_path: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lite_site.config.directory
    now = datetime.now(UTC)
    monkeypatch.setenv("AREA", jwt(exp=(now - HOUR).timestamp()))
    nightmill_yaml = folder / "nightmill.yaml"
    nightmill_yaml.write_text(
        nightmill_yaml.read_text().replace("working_areas:", "working_areas:\n  far: {url: 'file:///${AREA}'}")
    )
    say(
        folder,
        {"name": "grid", "kind": "x509", "file": str(proxy(tmp_path / "long", now + 100 * HOUR))},
        {"name": "soon", "kind": "x509", "file": str(proxy(tmp_path / "soon", now + 2 * HOUR))},
        {"name": "gone", "kind": "file", "file": "nowhere", "required": False},
    )
    called = nightmill("doctor", "--json", "--site", folder)
    seen = {each["what"]: each for each in called.json}
    assert called.code == 1
    assert seen["credential grid"]["well"]
    assert re.search(r": 4 d [34] h left, until 20", seen["credential grid"]["seen"])
    assert seen["credential grid"]["ends_at"].startswith(f"{now + 100 * HOUR:%Y-%m-%dT%H:%M:%S}")
    assert not seen["credential soon"]["well"]
    assert "at least 8 h 0 min are wanted (least_hours): renew it" in seen["credential soon"]["seen"]
    assert seen["credential gone"]["well"]
    assert "it is not there; it is not required" in seen["credential gone"]["seen"]
    assert not seen["credential AREA"]["well"], "a token that a URL refers to is looked at, too"
    assert "ey" not in seen["credential AREA"]["seen"]


# ------------------------------------------------------------------------------------------------- before it starts


@pytest.fixture
def observatory(tmp_path: Path, database_url: str) -> Observatory:
    """Give a site with three exposures."""
    built = Observatory.build(tmp_path / "site", database_url)
    built.observe(1, ["seconds 0\n"] * 3)
    return built


@pytest.mark.req("F27", "REQ-0006")
def test_nothing_is_submitted_where_one_of_several_is_there(
    observatory: Observatory, tmp_path: Path, nightmill: Nightmill
) -> None:
    """F27, REQ-0006."""
    folder = tmp_path / "site"
    (tmp_path / "token").write_text("there")
    say(
        folder,
        {"name": "cell", "kind": "file", "file": str(tmp_path / "token")},
        {"name": "realm", "kind": "file", "file": str(tmp_path / "ticket")},
    )
    with pytest.raises(CredentialsLacking) as refused:
        observatory.submit("night1", 1)
    told = f"credential 'realm' (file, {tmp_path}/ticket): it is not there; renew it, then begin again"
    assert str(refused.value).startswith(told)
    called = nightmill("submit", folder / "night1.yaml", "--site", folder)
    assert (called.code, told in called.err) == (2, True)
    assert nightmill("status", "--json", "--site", folder).json == []
    (tmp_path / "ticket").write_text("there")
    observatory.submit("night1", 1)


def test_what_ends_before_the_campaign_may_is_told(observatory: Observatory, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    lives_ = [Life(Credential(name="c", kind=CredentialKind.X509, file="f"), "x509, f", ends_at=now + 2 * HOUR)]
    assert short(lives_, 3600, now) == []
    assert short(lives_, 3 * 3600, now) == [
        "credential 'c' (x509, f) has 2 h 0 min left, and by the run times on record, this takes 3 h 0 min; renew it "
        "before it ends"
    ]
    [unknown] = short(lives_, None, now)
    assert "and at least 8 h 0 min are wanted (least_hours)" in unknown
    missing = Life(
        Credential(name="c", kind=CredentialKind.FILE, file="f", required=False), "file, f", "it is not there"
    )
    assert short([missing], None, now)[0].endswith("it is not required, and what needs it will fail")


def test_run_times_on_record_tell_how_long_a_campaign_takes(observatory: Observatory, tmp_path: Path) -> None:
    pipeline = tmp_path / "site" / "pipeline.yaml"
    pipeline.write_text(pipeline.read_text().partition("  summary:\n    per")[0])
    observatory.observe(2, ["seconds 0.5\n"] * 3)
    observatory.submit("night2", 2, "execution.threads=1")
    with observatory.open() as site, SliceWork(site, "night2", "science", 0) as work:
        assert seconds_left(site, "night2") is None, "no job like these is on record"
        while orders := work.issue(3):
            work.record(list(work.worker.run(orders)))
        assert work.jobs().done == 3
    observatory.observe(3, ["seconds 0.5\n"] * 60)
    campaign = tmp_path / "site" / "night3.yaml"
    campaign.write_text('campaign: night3\npipeline: pipeline.yaml\nwhere: "night == 3"\n')
    warned: list[str] = []
    file = proxy(tmp_path / "proxy", datetime.now(UTC) + timedelta(seconds=20))
    say(tmp_path / "site", {"name": "grid", "kind": "x509", "file": str(file)})
    with observatory.open() as site:
        submit(site, load_campaign(campaign, ["execution.threads=1"]), tell=warned.append)
        expected = seconds_left(site, "night3")
    assert expected is not None
    assert expected >= 60 * 0.5
    assert "and by the run times on record, this takes " in warned[0]


def test_a_slice_halts_where_one_has_ended_and_its_jobs_stay_as_they_are(
    observatory: Observatory, tmp_path: Path
) -> None:
    observatory.submit("night1", 1, "execution.threads=1")
    file = proxy(tmp_path / "proxy", datetime.now(UTC) - HOUR)
    say(tmp_path / "site", {"name": "grid", "kind": "x509", "file": str(file)})
    with observatory.open() as site, SliceWork(site, "night1", "science", 0) as work:
        assert work.issue(3) == []
        assert work.halted.startswith("a credential lets nobody in on host ")
        assert f"credential 'grid' (x509, {file}): it ended at 20" in work.halted
        assert set(observatory.states("night1").values()) <= {"ready", "planned"}
    proxy(file, datetime.now(UTC) + HOUR)
    with observatory.open() as site, SliceWork(site, "night1", "science", 0) as work:
        assert (len(work.issue(3)), work.halted) == (3, "")


def test_a_slice_halts_when_one_ends_meanwhile_and_goes_on_where_it_was_renewed(
    observatory: Observatory, tmp_path: Path
) -> None:
    observatory.submit("night1", 1, "execution.threads=1")
    file = proxy(tmp_path / "proxy", datetime.now(UTC) + timedelta(seconds=6))
    say(tmp_path / "site", {"name": "grid", "kind": "x509", "file": str(file), "least_hours": 0})
    with observatory.open() as site, SliceWork(site, "night1", "science", 0) as work:
        [first] = work.issue(1)
        work.record(list(work.worker.run([first])))
        time.sleep(6)
        proxy(file, datetime.now(UTC) + timedelta(seconds=6))
        [second] = work.issue(1)
        work.record(list(work.worker.run([second])))
        time.sleep(6)
        assert work.issue(1) == []
        assert "it ended at" in work.halted
        jobs = work.jobs()
    assert (jobs.done, jobs.failed) == (2, ())


def test_what_is_required_is_listed_whole(lite_site: Site) -> None:
    say(
        lite_site.config.directory,
        {"name": "a", "kind": "file", "file": "a"},
        {"name": "b", "kind": "file", "file": "b"},
    )
    with pytest.raises(CredentialsLacking) as refused:
        require(load_site(lite_site.config.directory))
    assert refused.value.message.count("it is not there") == 2
