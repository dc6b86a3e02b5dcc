"""What steps see of a pipeline's folder: the bytes of the submit, whatever other steps did, or a failure by name."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
from pathlib import Path

import pytest

from nightmill.execution import bundles
from nightmill.execution.bundles import BundleCache
from nightmill.files.packing import pack_folder
from nightmill.model.bundle import bundle_path
from nightmill.model.fate import Fate
from nightmill.model.order import JobOrder, OrderBundle, OrderStep
from nightmill.model.pipeline import BundleRules
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState
from tests.execution.failing import FIRST
from tests.support.forks import forked
from tests.support.orders import Bench, shell

SCRIPT = 'echo right > "$1"\n'
READS = "python3 -c \"import sys; sys.path.insert(0, '../bundle/lib'); import util; util.write()\""
RUNS = "sh ../bundle/step.sh first.txt"


def put_bundle(bench: Bench, more: str = "") -> OrderBundle:
    """Pack a small pipeline, and put it into the backbone's store."""
    folder = bench.root / "pipeline"
    (folder / "lib").mkdir(parents=True, exist_ok=True)
    (folder / "step.sh").write_text(SCRIPT)
    (folder / "more").write_text(more)
    (folder / "lib" / "util.py").write_text("def write(): open('first.txt', 'w').write('right')\n")
    archive = io.BytesIO()
    digest, size_bytes, _files = pack_folder(folder, BundleRules(), target=archive)
    path = bench.root / "stores" / "backbone" / bundle_path(digest)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(archive.getvalue())
    return OrderBundle(digest=digest, size_bytes=size_bytes, store="backbone", path=bundle_path(digest))


def order_of(bench: Bench, bundle: OrderBundle, *steps: OrderStep, number: int = 1) -> JobOrder:
    order = bench.order(*(steps or (shell("run", RUNS, FIRST),)), number=number)
    return order.model_copy(update={"bundle": bundle})


def cached(bench: Bench) -> list[str]:
    """Return what the cache holds."""
    root = bench.spool / "cache"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def must_publish(report: JobReport) -> None:
    assert report.state is AttemptState.PUBLISHED, report.evidence


def must_fail(report: JobReport, fate: Fate, said: str, *, step: str = "") -> None:
    assert (report.state, report.fate, report.failed_step or "") == (AttemptState.FAILED, fate, step), report.evidence
    assert re.search(said, report.evidence), report.evidence


def test_steps_see_the_bundle_and_nothing_of_it_stays_but_the_archive(bench: Bench) -> None:
    bundle = put_bundle(bench)
    must_publish(bench.run_one(order_of(bench, bundle, shell("run", READS, FIRST))))
    assert bench.leftovers() == []
    assert cached(bench) == [f"bundles/{bundle.digest}.tar"]
    assert (bench.spool / "cache" / "bundles" / f"{bundle.digest}.tar").stat().st_mode & 0o777 == 0o444


def test_an_archive_is_fetched_once_a_host(bench: Bench) -> None:
    bundle = put_bundle(bench)
    must_publish(bench.run_one(order_of(bench, bundle)))
    (bench.root / "stores" / "backbone" / bundle.path).unlink()
    must_publish(bench.run_one(_second(bench, bundle)))


def _second(bench: Bench, bundle: OrderBundle) -> JobOrder:
    """Make an order that publishes under other names than the first."""
    other = FIRST.model_copy(update={"names": ("other.txt",)})
    return order_of(bench, bundle, shell("run", "sh ../bundle/step.sh other.txt", other), number=2)


MEDDLING = {
    "appends": ("echo exit 1 >> ../bundle/step.sh", r"../bundle/step.sh: it has \d+ bytes now"),
    "edits in place": ("printf x | dd of=../bundle/step.sh conv=notrunc", "../bundle/step.sh: its bytes have changed"),
    "replaces": ("echo exit 1 > s; mv -f s ../bundle/step.sh", r"../bundle/step.sh: it is -rw"),
    "removes": ("rm -f ../bundle/step.sh", "../bundle/step.sh: it is not there|../bundle: 'step.sh' is not there"),
    "adds": ("echo 1 > ../bundle/lib/numpy.py", "../bundle/lib: 'numpy.py' was added"),
    "adds a folder": ("mkdir ../bundle/numpy", "../bundle: 'numpy' was added"),
    "chmods": ("chmod 644 ../bundle/step.sh", r"../bundle/step.sh: it is -rw-r--r-- now, and was -r--r--r--"),
    "chmods the folder": ("chmod 777 ../bundle/", r"../bundle: it is drwxrwxrwx now"),
    "links": ("rm -f ../bundle/step.sh; ln -s /etc/passwd ../bundle/step.sh", r"../bundle/step.sh: it is l"),
    "removes the link": ("rm ../bundle", "removed or replaced ../bundle"),
    "puts another": ("rm ../bundle; mkdir ../bundle; echo : > ../bundle/step.sh", "removed or replaced ../bundle"),
    "leads elsewhere": ("rm ../bundle; ln -s /tmp ../bundle", "removed or replaced ../bundle"),
    "moves the tree": ("t=$(readlink ../bundle); mv $t $t.x; mkdir $t", "../bundle"),
}  # fmt: skip


@pytest.mark.parametrize("how", MEDDLING)
def test_a_step_that_changes_the_bundle_fails_by_name_and_the_next_job_has_the_right_bytes(
    bench: Bench, how: str
) -> None:
    bundle = put_bundle(bench)
    script, said = MEDDLING[how]
    meddler = order_of(bench, bundle, shell("meddler", f"{RUNS}; {script} 2>/dev/null; true", FIRST))
    first, second = bench.run(meddler, _second(bench, bundle))
    must_fail(first, Fate.BAD_OUTPUT, f"step 'meddler' .*({said})", step="meddler")
    must_publish(second)
    assert (bench.root / "stores" / "backbone" / "products" / "other.txt").read_text() == "right\n"
    assert bench.leftovers() == []


def test_what_a_step_that_failed_did_to_the_bundle_reaches_no_other_job(bench: Bench) -> None:
    bundle = put_bundle(bench)
    first, second = bench.run(
        order_of(bench, bundle, shell("meddler", "echo exit 1 > ../bundle/step.sh; exit 3", FIRST)),
        _second(bench, bundle),
    )
    must_fail(first, Fate.STEP_FAILED, "exited with code 3", step="meddler")
    must_publish(second)


def test_two_jobs_at_a_time_see_two_trees(bench: Bench) -> None:
    bundle = put_bundle(bench)
    cache = BundleCache(bench.root / "cache")
    stager = bench.stagers["backbone"]
    with cache.taken(bundle, stager.fetch) as one, cache.taken(bundle, stager.fetch) as two:
        assert one.path != two.path
        before = one.path
    with cache.taken(bundle, stager.fetch) as again:
        assert again.path in (before, two.path)
    cache.close()


def test_a_touched_file_with_the_same_bytes_is_no_change(bench: Bench) -> None:
    bundle = put_bundle(bench)
    must_publish(bench.run_one(order_of(bench, bundle, shell("run", f"{RUNS}; touch ../bundle/step.sh", FIRST))))


def test_workers_unpack_at_the_same_time(bench: Bench) -> None:
    bundle = put_bundle(bench)
    seen: list[str] = []

    def work() -> None:
        cache = BundleCache(bench.root / "cache")
        with cache.taken(bundle, bench.stagers["backbone"].fetch) as tree:
            seen.append((tree.path / "step.sh").read_text())
        cache.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [SCRIPT] * 8
    assert [path.name for path in (bench.root / "cache").rglob("*") if path.is_file()] == [f"{bundle.digest}.tar"]


def die_while(moment: str, root: Path, bundle: OrderBundle) -> None:
    """Use a bundle, and be killed in the middle of it; for a process of its own."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    bench = Bench(root)
    stager = bench.stagers["backbone"]
    if moment == "unpacking":
        os.fchmod = die  # type: ignore[assignment]
    elif moment == "fetching":
        fetch = stager.fetch

        def fetch_half(path: str, target: Path) -> int:
            fetch(path, target)
            target.chmod(0o600)
            os.truncate(target, 700)
            die()
            return 0

        stager.fetch = fetch_half  # type: ignore[method-assign]
    with BundleCache(root / "spool" / "cache").taken(bundle, stager.fetch):
        die()


@pytest.mark.parametrize("moment", ["fetching", "unpacking", "using"])
def test_nothing_half_is_used_and_what_a_dead_worker_had_is_removed(bench: Bench, moment: str) -> None:
    bundle = put_bundle(bench)
    assert forked(die_while, moment, bench.root, bundle) == -signal.SIGKILL
    assert len(cached(bench)) > 1
    must_publish(bench.run_one(order_of(bench, bundle)))
    assert cached(bench) == [f"bundles/{bundle.digest}.tar"]


def test_what_a_living_worker_has_is_left_alone(bench: Bench) -> None:
    bundle = put_bundle(bench)
    living = BundleCache(bench.spool / "cache")
    with living.taken(bundle, bench.stagers["backbone"].fetch) as tree:
        must_publish(bench.run_one(order_of(bench, bundle)))
        assert tree.broken() == ""
    living.close()


def test_a_corrupt_archive_is_refused_by_its_digest(bench: Bench) -> None:
    bundle = put_bundle(bench)
    path = bench.root / "stores" / "backbone" / bundle.path
    path.write_bytes(path.read_bytes().replace(b"right", b"wrong"))
    report = bench.run_one(order_of(bench, bundle))
    must_fail(report, Fate.INPUT_CORRUPT, f"bundle bundle_{bundle.digest[:16]}.tar in store 'backbone' is not what")
    assert cached(bench) == []


def test_an_archive_that_is_not_there_fails_the_job(bench: Bench) -> None:
    bundle = put_bundle(bench)
    (bench.root / "stores" / "backbone" / bundle.path).unlink()
    must_fail(bench.run_one(order_of(bench, bundle)), Fate.INPUT_MISSING, r"bundle bundle_\w+\.tar is gone")


def test_a_cached_archive_that_was_changed_is_fetched_again(bench: Bench) -> None:
    bundle = put_bundle(bench)
    kept = bench.spool / "cache" / "bundles" / f"{bundle.digest}.tar"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"rubbish")
    must_publish(bench.run_one(order_of(bench, bundle)))
    assert kept.stat().st_size == bundle.size_bytes


def test_a_cache_that_cannot_be_written_is_told(bench: Bench) -> None:
    bundle = put_bundle(bench)
    bench.spool.mkdir()
    (bench.spool / "cache").write_text("in the way")
    must_fail(bench.run_one(order_of(bench, bundle)), Fate.STORE_ERROR, "the cache cannot be used: .*/cache")


def test_the_archives_that_were_not_used_for_the_longest_time_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "ARCHIVES_KEPT", 2)
    given = [put_bundle(bench, more) for more in ("a", "b", "c")]
    cache = BundleCache(bench.root / "cache")
    for at, bundle in enumerate([given[0], given[1], given[0], given[2]]):
        fresh = BundleCache(bench.root / "cache")
        with fresh.taken(bundle, bench.stagers["backbone"].fetch):
            pass
        fresh.close()
        os.utime(cache.archives / f"{bundle.digest}.tar", (at + 1, at + 1))
    assert {path.stem for path in cache.archives.iterdir()} == {given[0].digest, given[2].digest}
    monkeypatch.setattr(bundles, "BYTES_KEPT", given[0].size_bytes)
    with cache.taken(given[1], bench.stagers["backbone"].fetch) as tree:
        assert (tree.path / "more").read_text() == "b"
    cache.close()
    assert {path.stem for path in cache.archives.iterdir()} == {given[1].digest}


def test_a_scratch_that_is_kept_has_a_copy(bench: Bench) -> None:
    bundle = put_bundle(bench)
    must_publish(bench.run_one(order_of(bench, bundle), keep_scratch=True))
    [scratch] = bench.scratch.iterdir()
    copy = scratch / "bundle"
    assert not copy.is_symlink()
    assert (copy / "step.sh").read_text() == SCRIPT
    assert copy.stat().st_mode & 0o200


def test_python_writes_nothing_beside_the_modules_unless_a_step_wants_it(bench: Bench) -> None:
    bundle = put_bundle(bench)
    eager = shell("run", READS, FIRST, environment={"PYTHONDONTWRITEBYTECODE": ""})
    report = bench.run_one(order_of(bench, bundle, eager))
    must_fail(report, Fate.BAD_OUTPUT, "../bundle/lib: '__pycache__' was added", step="run")
