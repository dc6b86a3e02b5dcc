"""The bundle of a pipeline: its folder packed, put into the backbone's store, and read again to be compared."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from difflib import unified_diff
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import IO, Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.catalogue.registration import NewFile, add_copy, register
from nightmill.backbone.schema import AttemptRow, JobRow, PlanRow
from nightmill.config.site import SiteConfig
from nightmill.config.stores import BACKBONE
from nightmill.errors import NameCollision, NameTaken, RequestRefused, StoredFileMissing, StoreError, guess
from nightmill.files.archive import members, read_manifest
from nightmill.files.checksum import fingerprint
from nightmill.files.packing import pack_folder
from nightmill.model.bundle import FILE_TYPE, Bundle, BundleChanges, BundleFile, SealedBundle, bundle_name, bundle_path
from nightmill.model.order import OrderBundle
from nightmill.model.origin import Origin
from nightmill.model.pipeline import Pipeline
from nightmill.operations.site import FILE_TYPES_FILE, PRIVATE, Site, database_of, folder_of
from provenance.history import BUNDLE

_GIT_SECONDS: Final = 30.0
_TEXT_BYTES: Final = 1 << 20
"""Of larger files no differences are shown."""


def pack(pipeline: Pipeline, config: SiteConfig, target: Path | None = None) -> Bundle | None:
    """Pack the folder of a pipeline as it is now; nothing else is written.

    Parameters
    ----------
    config
        The site: its own stores, folders and files are never packed.
    target
        A new file for the archive; without one, only its digest is worked out.

    Returns
    -------
    Bundle or None
        None for a pipeline that was not loaded from a file, and so has no folder.

    Raises
    ------
    RequestRefused
        Where the folder cannot be packed.
    """
    if not pipeline.directory:
        return None
    folder = Path(pipeline.directory)
    apart = _own_places(config)
    if target is None:
        digest, size_bytes, files = pack_folder(folder, pipeline.bundle, apart=apart)
    else:
        with target.open("xb") as archive:
            digest, size_bytes, files = pack_folder(folder, pipeline.bundle, apart=apart, target=archive)
    commit, dirty = _git_state(folder, {file.path for file in files})
    templates = {path: _template(folder, path, files) for path in sorted(_named_templates(pipeline))}
    return Bundle(
        digest=digest,
        size_bytes=size_bytes,
        store=BACKBONE,
        path=bundle_path(digest),
        files=files,
        commit=commit,
        dirty=dirty,
        templates=templates,
    )


def _named_templates(pipeline: Pipeline) -> set[str]:
    files = [file for stage in pipeline.stages for step in stage.steps for file in step.files.values()]
    return {file.template for file in files if file.template}


def _template(folder: Path, path: str, files: Collection[BundleFile]) -> str:
    """Read a template as it was packed."""
    packed = {file.path: file for file in files}
    if path not in packed:
        raise RequestRefused(
            f"template {path!r} is not in the bundle of {folder}{guess(path, sorted(packed))}",
            remedy="name a file of the pipeline's folder that 'bundle' does not leave out",
        )
    data = (folder / path).read_bytes()
    if sha256(data).hexdigest() != packed[path].sha256:
        raise RequestRefused(f"template {path!r} of {folder} was changed while it was packed", remedy="try again")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RequestRefused(
            f"template {path!r} of {folder} is not UTF-8: {error.reason}", remedy="save it so"
        ) from error


def _own_places(config: SiteConfig) -> set[str]:
    """Return the real paths of what a site may have in the folder of a pipeline."""
    folders = [folder for store in config.stores.values() if (folder := folder_of(store)) is not None]
    places = [*folders, config.scratch, config.spool, config.cache, config.directory / PRIVATE]
    places.append(config.directory / FILE_TYPES_FILE)
    if (database := database_of(config).file) is not None:
        places += [database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]
    return {os.path.realpath(place) for place in places}


def keep(site: Site, bundle: Bundle, archive: Path) -> None:
    """Bring a packed archive into its store, durable, under its digest; one that is there already is taken as it is.

    Raises
    ------
    StoreError
        Where the store cannot be used, or has other bytes there.
    """
    stager = site.stagers[bundle.store]
    token = f"bundle-{bundle.digest[:8]}-{token_hex(8)}"
    try:
        with site.moving(bundle.store):
            stager.upload(archive, bundle.path, attempt=token)
            try:
                if stager.uploaded(bundle.path, attempt=token) != (bundle.size_bytes, bundle.digest):
                    raise StoreError(
                        f"the bundle did not arrive in store {bundle.store!r} as it was sent", remedy="check the store"
                    )
                stager.reveal(bundle.path, attempt=token)
            finally:
                stager.discard(bundle.path, attempt=token)
    except NameCollision:
        if stager.size(bundle.path) != bundle.size_bytes or stager.sha256(bundle.path) != bundle.digest:
            raise StoreError(
                f"{bundle.path} in store {bundle.store!r} is damaged: its bytes are not those that its name says",
                remedy="remove it there, then submit again",
            ) from None
    stager.settle([bundle.path])


def register_bundle(session: Session, bundle: OrderBundle, provenance: str, *, who: str, now: datetime) -> None:
    """Put an archive that stands in its store into the catalogue, or its copy where another site has put it there.

    Parameters
    ----------
    provenance
        Where it comes from, in words.

    Raises
    ------
    NameTaken
        Where the catalogue has another file of its name.
    """
    name = bundle_name(bundle.digest)
    known = known_files(session, [name]).get(name)
    if known is not None and known.sha256 == bundle.digest:
        add_copy(session, known.id, bundle.store, bundle.path, now=now)
        return
    new = NewFile(
        name,
        FILE_TYPE,
        Origin.MANUAL,
        bundle.size_bytes,
        bundle.digest,
        provenance=provenance,
        store=bundle.store,
        path=bundle.path,
    )
    try:
        register(session, [new], who=who, now=now)
    except NameTaken as error:  # by another submission, a moment ago
        if error.other:
            raise
        add_copy(session, known_files(session, [name])[name].id, bundle.store, bundle.path, now=now)


def provenance_of(bundle: Bundle, pipeline: Pipeline) -> str:
    """Say where a bundle comes from."""
    told = f"pipeline {pipeline.name} {pipeline.version}, packed from {pipeline.directory}"
    if not bundle.commit:
        return told
    return f"{told}, git commit {bundle.commit}{' with changes' if bundle.dirty else ''}"


def sealed_bundle(session: Session, campaign_id: int) -> SealedBundle | None:
    """Return the bundle that jobs of a campaign run from now on; None where none of its stages has one.

    It is that of the newest plan: the one that was submitted, or what came in its place since.
    """
    newest = select(PlanRow.common).where(PlanRow.campaign_id == campaign_id).order_by(PlanRow.id.desc()).limit(1)
    common = session.scalar(newest)
    found = common.get("bundle") if common else None
    return None if found is None else SealedBundle.model_validate(found)


def jobs_per_bundle(session: Session, campaign_ids: Collection[int]) -> dict[int, dict[str, int]]:
    """Return how many jobs ran which bundle or, where they are not done, would run it: by campaign and digest.

    Two statements, however many the campaigns are.
    """
    query = select(PlanRow.id, BUNDLE).where(among(PlanRow.campaign_id, campaign_ids))
    digests = {id_: digest or "" for id_, digest in session.execute(query)}
    plan_id = func.coalesce(AttemptRow.plan_id, JobRow.plan_id)
    counted = (
        select(JobRow.campaign_id, plan_id, func.count())
        .outerjoin(AttemptRow, (AttemptRow.job_id == JobRow.id) & AttemptRow.result)
        .where(among(JobRow.campaign_id, campaign_ids))
        .group_by(JobRow.campaign_id, plan_id)
    )
    found: dict[int, dict[str, int]] = {id_: {} for id_ in campaign_ids}
    for campaign_id, id_, count in session.execute(counted):
        own = found[campaign_id]
        own[digests[id_]] = own.get(digests[id_], 0) + count
    return found


@contextmanager
def opened_bundle(site: Site, bundle: OrderBundle) -> Iterator[IO[bytes]]:
    """Open the archive of a bundle as it lies in its store, checked by its digest.

    Raises
    ------
    RequestRefused
        Where it is not there, or is not what its digest says.
    StoreError
        Where the store cannot be used.
    """
    if bundle.store not in site.stagers:
        raise RequestRefused(f"{bundle.path} lies in store {bundle.store!r}, which the site does not have")
    with TemporaryDirectory(prefix="nightmill-") as folder:
        path = Path(folder, "bundle.tar")
        try:
            with site.moving(bundle.store) as stager:
                stager.fetch(bundle.path, path)
        except StoredFileMissing as error:
            raise RequestRefused(f"{bundle_name(bundle.digest)} is gone: {error}") from error
        if fingerprint(path) != (bundle.size_bytes, bundle.digest):
            raise RequestRefused(
                f"{bundle.path} in store {bundle.store!r} is not what was submitted: its bytes have changed",
                remedy="bring back a good copy",
            )
        with path.open("rb") as archive:
            yield archive


def with_templates(site: Site, bundle: OrderBundle, pipeline: Pipeline) -> SealedBundle:
    """Return a bundle that an order names as a plan keeps it, its templates read from its archive.

    Raises
    ------
    RequestRefused, StoreError
        As :func:`opened_bundle`, where the pipeline has templates.
    """
    wanted = _named_templates(pipeline)
    texts: dict[str, str] = {}
    if wanted:
        with opened_bundle(site, bundle) as archive:
            texts = {each.path: each.content.read().decode() for each in members(archive) if each.path in wanted}
    return SealedBundle(**bundle.model_dump(), templates=texts)


def manifest(site: Site, bundle: OrderBundle) -> tuple[BundleFile, ...]:
    """Return what is in a bundle, as its archive in the store says; errors are those of :func:`opened_bundle`."""
    with opened_bundle(site, bundle) as archive:
        return read_manifest(archive)


def differences(before: IO[bytes], after: IO[bytes], changes: BundleChanges) -> str:
    """Return a unified diff of the text files that differ between two archives; of others, a line that says so."""
    paths = sorted({*changes.added, *changes.changed, *changes.removed})
    old, new = _contents(before, paths), _contents(after, paths)
    lines: list[str] = []
    for path in paths:
        left, right = _text(old.get(path, b"")), _text(new.get(path, b""))
        before_as, after_as = f"a/{path}" if path in old else "/dev/null", f"b/{path}" if path in new else "/dev/null"
        if left is None or right is None:
            lines.append(f"files {before_as} and {after_as} differ")
        elif left == right:
            lines.append(f"{path} has another mode")
        else:
            lines += unified_diff(left, right, before_as, after_as, lineterm="")
    return "\n".join(lines)


def _text(content: bytes | None) -> list[str] | None:
    """Return the lines of a text, or None of what is not one."""
    if content is None or b"\0" in content:
        return None
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        return None


def _contents(archive: IO[bytes], paths: Collection[str]) -> dict[str, bytes | None]:
    """Return the bytes of files of an archive; None of those that are too large to show."""
    found: dict[str, bytes | None] = {}
    for member in members(archive):
        if member.path in paths:
            content = member.content.read(_TEXT_BYTES + 1)
            found[member.path] = content if len(content) <= _TEXT_BYTES else None
    return found


def _git_state(folder: Path, packed: Collection[str]) -> tuple[str, bool]:
    """Return the commit that is checked out in a folder, and whether what is packed differs from it."""
    asked = _git(folder, "rev-parse", "--verify", "HEAD^{commit}"), _git(folder, "rev-parse", "--show-prefix")
    if None in asked:
        return "", False
    commit, prefix = [str(answer).strip("\n") for answer in asked]
    told = _git(folder, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", "--", ".")
    if told is None:
        return commit, True
    for line in told.split("\0"):
        path = line[3:].removeprefix(prefix)
        if "D" in line[:2] or any(each == path or (path.endswith("/") and each.startswith(path)) for each in packed):
            return commit, True
    return commit, False


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git answers; None where it is not installed, or the folder is not in a repository."""
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            env={name: value for name, value in environment.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(done.stdout)
