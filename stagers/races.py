"""What stagers promise where several are at work at once: a part of :mod:`stagers.conformance`. Needs pytest."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from nightmill.errors import NameCollision, StoredFileMissing
from nightmill.model.ports import Stager
from stagers.readable import PATH, WHOLE, Opener, local_file


def publish(stager: Stager, source: Path, path: str, *, attempt: str = "a01") -> None:
    """Bring a local file into a store, all the way to its durable name."""
    stager.upload(source, path, attempt=attempt)
    stager.reveal(path, attempt=attempt)
    stager.settle([path])


class Races:
    """The promises that readers, racers and threads rely on."""

    def test_no_reader_ever_sees_a_half(self, opener: Opener, tmp_path: Path) -> None:
        """Readers that look all the time see nothing, or the whole file."""
        source = local_file(tmp_path, "whole", WHOLE)
        paths = [f"night1/whole{number}" for number in range(6)]
        over = threading.Event()

        def look(reader: int) -> int:
            stager, seen = opener(), 0
            while not over.is_set():
                for path, size in stager.list():
                    assert size == len(WHOLE), path
                for path in paths:
                    if (size_now := stager.size(path)) is not None:
                        seen += 1
                        assert size_now == len(WHOLE)
                        copy = tmp_path / f"copy{reader}-{seen}"
                        assert stager.fetch(path, copy) == len(WHOLE)
                        assert copy.read_bytes() == WHOLE
                        copy.unlink()
            return seen

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(look, reader) for reader in range(2)]
            try:
                for path in paths:
                    publish(opener(), source, path)
            finally:
                over.set()
            for reader in readers:
                reader.result()
        assert sorted(opener().list()) == [(path, len(WHOLE)) for path in paths]

    def test_of_many_that_reveal_at_once_one_wins(self, opener: Opener, tmp_path: Path) -> None:
        """The file is the winner's, whole; each other is told of the collision."""
        attempts = [f"a{number:02d}" for number in range(8)]
        for attempt in attempts:
            opener().upload(local_file(tmp_path, attempt, attempt.encode()), PATH, attempt=attempt)
        start = threading.Barrier(len(attempts))

        def reveal(attempt: str) -> bool:
            stager = opener()
            start.wait()
            try:
                stager.reveal(PATH, attempt=attempt)
            except NameCollision:
                return False
            return True

        with ThreadPoolExecutor(len(attempts)) as pool:
            won = [attempt for attempt, first in zip(attempts, pool.map(reveal, attempts), strict=True) if first]
        assert len(won) == 1
        assert opener().sha256(PATH) == sha256(won[0].encode()).hexdigest()

    def test_of_many_whole_publications_one_wins(self, opener: Opener, tmp_path: Path) -> None:
        """Each uploads, reads again, and reveals, whatever the others are at; the losers learn it at one of these."""
        attempts = [f"a{number:02d}" for number in range(6)]
        for attempt in attempts:
            local_file(tmp_path, attempt, attempt.encode() * 100_000)
        start = threading.Barrier(len(attempts))

        def run(attempt: str) -> bool:
            stager = opener()
            start.wait()
            try:
                publish(stager, tmp_path / attempt, PATH, attempt=attempt)
            except NameCollision:
                stager.discard(PATH, attempt=attempt)
                return False
            return True

        with ThreadPoolExecutor(len(attempts)) as pool:
            won = [attempt for attempt, first in zip(attempts, pool.map(run, attempts), strict=True) if first]
        assert len(won) == 1
        assert opener().sha256(PATH) == sha256((tmp_path / won[0]).read_bytes()).hexdigest()
        assert list(opener().uploads()) == []

    def test_two_that_carry_on_one_attempt_do_not_harm_it(self, opener: Opener, frame: Path) -> None:
        """As where a process that was taken for dead lives: the file stands whole, and nothing of it is left."""
        opener().upload(frame, PATH, attempt="a01")
        start = threading.Barrier(4)

        def reveal(_number: int) -> bool:
            stager = opener()
            start.wait()
            try:
                stager.reveal(PATH, attempt="a01")
            except (NameCollision, StoredFileMissing):
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert any(pool.map(reveal, range(4)))
        assert opener().sha256(PATH) == sha256(frame.read_bytes()).hexdigest()
        opener().discard(PATH, attempt="a01")
        assert list(opener().uploads()) == []

    def test_threads_share_a_stager(self, stager: Stager, tmp_path: Path) -> None:
        """Each with files of its own."""

        def run(number: int) -> bytes:
            content = bytes([number]) * (1000 + number)
            publish(stager, local_file(tmp_path, f"in{number}", content), f"n/{number}", attempt=f"a{number:02d}")
            assert stager.fetch(f"n/{number}", tmp_path / f"out{number}") == len(content)
            return (tmp_path / f"out{number}").read_bytes()

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(run, range(16))) == [bytes([number]) * (1000 + number) for number in range(16)]
