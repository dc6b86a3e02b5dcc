"""What a store over SFTP needs: its library, a URL, a host that is trusted, and a key that is let in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nightmill.errors import BadPlugin, ConfigError, StoreError
from nightmill.execution.stores import open_stager
from nightmill.model.store import Store
from stagers.place import Place
from stagers.sftp import SftpStager
from tests.support.sshd import USER, Sshd, key_fingerprint, make_key


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a home folder of its own, and no agent."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


def open_with(sshd: Sshd, folder: Path, identity: str = "id", trust: str = "", more: str = "") -> SftpStager:
    return SftpStager(Store(name="far", url=sshd.url(folder, identity=identity, trust=trust, more=more)))


# ------------------------------------------------------------------------------------------------ the host


def test_an_unknown_host_is_refused_with_its_key_and_what_to_do(sshd: Sshd, tmp_path: Path, home: Path) -> None:
    """Whatever ``~/.ssh/config`` says of checking keys."""
    (home / ".ssh/config").write_text("Host *\n  UserKnownHostsFile none\n  StrictHostKeyChecking no\n")
    stager = open_with(sshd, tmp_path)
    own = re.escape(sshd.fingerprint)
    with pytest.raises(
        StoreError,
        match=rf"host '127.0.0.1' of store 'far' is not known in {home}/.ssh/known_hosts: its key is ssh-ed25519 {own};"
        r" ask who runs that host whether that is its key; if it is, append what"
        rf" 'ssh-keyscan -p {sshd.port} 127.0.0.1' prints to that file, or add 'fingerprint={own}' to the store's URL",
    ):
        stager.size("frame")
    scanned = subprocess.run(
        ["ssh-keyscan", "-p", str(sshd.port), "127.0.0.1"], check=True, capture_output=True, text=True
    )
    (home / ".ssh/known_hosts").write_text(scanned.stdout)
    assert stager.size("frame") is None


def test_a_host_whose_key_is_another_than_is_known_is_refused(sshd: Sshd, tmp_path: Path, home: Path) -> None:
    stranger = " ".join((sshd.folder / "stranger.pub").read_text().split()[:2])
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {stranger}\n")
    own, known = (re.escape(key_fingerprint(sshd.folder / name)) for name in ("host", "stranger"))
    let_in = sshd.log.count("Accepted")
    with pytest.raises(
        StoreError,
        match=rf"is not the one that {home}/.ssh/known_hosts knows: its key is ssh-ed25519 {own},"
        rf" and {known} is known; ask who runs that host .* somebody else answers in its place",
    ):
        open_with(sshd, tmp_path).size("frame")
    assert sshd.log.count("Accepted") == let_in


def test_a_revoked_key_is_refused(sshd: Sshd, tmp_path: Path, home: Path) -> None:
    own = " ".join((sshd.folder / "host.pub").read_text().split()[:2])
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {own}\n@revoked * {own}\n")
    with pytest.raises(StoreError, match=r"host '127.0.0.1' of store 'far' is not trusted: Host key is revoked"):
        open_with(sshd, tmp_path).size("frame")


def test_a_fingerprint_in_the_url_is_all_that_is_trusted(sshd: Sshd, tmp_path: Path) -> None:
    assert open_with(sshd, tmp_path, trust=f"&fingerprint={sshd.fingerprint}").size("frame") is None
    other = key_fingerprint(sshd.folder / "stranger")
    with pytest.raises(StoreError, match=rf"is not the one that its URL names: .*, and not {re.escape(other)}"):
        open_with(sshd, tmp_path, trust=f"&fingerprint={other}").size("frame")


# -------------------------------------------------------------------------------------------------- letting in


def test_a_key_that_is_not_let_in_is_named(sshd: Sshd, tmp_path: Path) -> None:
    trust = f"&fingerprint={sshd.fingerprint}"
    with pytest.raises(
        StoreError,
        match=rf"host '127.0.0.1' of store 'far' does not let {USER} in with the identity .*/stranger: .*;"
        rf" see that 'sftp {USER}@127.0.0.1' works from this host",
    ):
        open_with(sshd, tmp_path, identity="stranger", trust=trust).size("frame")
    with pytest.raises(StoreError, match=r"the identity .*/none cannot be read: No such file"):
        open_with(sshd, tmp_path, identity="none", trust=trust).size("frame")
    with pytest.raises(StoreError, match=r"the identity .*/known_hosts cannot be used: "):
        open_with(sshd, tmp_path, identity="known_hosts", trust=trust).size("frame")


def test_a_key_with_a_passphrase_that_is_a_secret(sshd: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "locked", "open sesame+&")
    with (sshd.folder / "authorized_keys").open("a") as keys:
        keys.write((tmp_path / "locked.pub").read_text())
    url = f"sftp://{USER}@127.0.0.1:{sshd.port}{tmp_path}?identity={tmp_path}/locked&fingerprint={sshd.fingerprint}"
    store = Store(name="far", url=f"{url}&passphrase=${{PASSPHRASE}}")
    assert open_stager(store, {"PASSPHRASE": "open sesame+&"}).size("frame") is None
    with pytest.raises(StoreError, match=r"the identity .*/locked cannot be used: ") as caught:
        open_stager(store, {"PASSPHRASE": "wrong"}).size("frame")
    assert "wrong" not in str(caught.value)
    with pytest.raises(StoreError, match=r"the identity .*/locked cannot be used: "):
        open_stager(Store(name="far", url=url), {}).size("frame")


def test_a_password_is_sent_and_never_told(sshd: Sshd, tmp_path: Path) -> None:
    trust = f"?fingerprint={sshd.fingerprint}"
    store = Store(name="far", url=f"sftp://{USER}:${{PASSWORD}}@127.0.0.1:{sshd.port}{tmp_path}{trust}")
    with pytest.raises(StoreError, match=f"does not let {USER} in with the password of the store's URL") as caught:
        open_stager(store, {"PASSWORD": "s3cret"}).size("frame")
    assert "s3cret" not in str(caught.value)


def test_an_agent_and_the_keys_of_ssh_are_used(
    sshd: Sshd, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(name="far", url=f"sftp://{USER}@127.0.0.1:{sshd.port}{tmp_path}?fingerprint={sshd.fingerprint}")
    with pytest.raises(StoreError, match=r"does not let .* in with the keys of ~/.ssh and the agent"):
        SftpStager(store).size("frame")
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        add = ["ssh-add", "-q", str(sshd.folder / "id")]
        while subprocess.run(add, check=False, capture_output=True).returncode == 2:  # it is not there yet
            assert agent.poll() is None
        assert SftpStager(store).size("frame") is None
    finally:
        agent.terminate()
        agent.wait()
    monkeypatch.delenv("SSH_AUTH_SOCK")
    (home / ".ssh/config").write_text(f"Host far\n  HostName 127.0.0.1\n  User {USER}\n  Port {sshd.port}\n")
    (home / ".ssh/id_ed25519").write_bytes((sshd.folder / "id").read_bytes())
    named = Store(name="far", url=f"sftp://far{tmp_path}?fingerprint={sshd.fingerprint}")
    assert SftpStager(named).size("frame") is None


# ------------------------------------------------------------------------------------------------------ URLs


def test_a_folder_may_be_below_the_home_there(sshd: Sshd) -> None:
    here = SftpStager(Store(name="far", url=sshd.url(Path("/~/nightmill-none"))))
    with pytest.raises(StoreError, match=r"the folder of store 'far' \(sftp://.*/~/nightmill-none\) does not exist"):
        here.size("frame")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sftp:///data", r"names no host; write sftp://USER@HOST/PATH, or sftp://USER@HOST/~/PATH"),
        ("sftp://host", "names no folder"),
        ("sftp://host/", "names no folder"),
        ("sftp://host/~/", "names no folder"),
        ("sftp://host/~", "names no folder"),
        (
            "sftp://host/data?identiy=/key",
            r"asks for 'identiy' \(did you mean 'identity'\?\); it may have ident",
        ),
        (
            "sftp://user:secret@host/data?password=x",
            r"store 'far' has the URL 'sftp://user:\*\*\*@host/data\?password=\*",
        ),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        SftpStager(Store(name="far", url=url))


def test_what_a_url_says(home: Path) -> None:
    url = "sftp://a%20b:p%40ss@Host:2222/data/my%20store/?identity=~/key&fingerprint=SHA256:a+b/c"
    place = Place.of(Store(name="far", url=url))
    assert (place.user, place.password, place.host, place.port) == ("a b", "p@ss", "host", 2222)
    assert (place.folder, place.identity, place.fingerprint) == ("/data/my store", f"{home}/key", "SHA256:a+b/c")
    assert str(place) == "sftp://a b@host:2222/data/my store"


def test_without_its_library_it_is_refused_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    for name in ("stagers.sftp", "stagers.ssh", "stagers.place"):
        monkeypatch.delitem(sys.modules, name)
    told = r"stager 'sftp' of nightmill .* cannot be imported: ModuleNotFoundError: .*; pip install 'nightmill\[sftp\]'"
    with pytest.raises(BadPlugin, match=told):
        open_stager(Store(name="far", url=f"sftp://host{tmp_path}"), {})
