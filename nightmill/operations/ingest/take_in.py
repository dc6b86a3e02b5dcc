"""Taking files in: raw ones from an instrument, manual ones from a person.

Files are taken in some hundreds at a time, and what is wrong with one of them stops none of the others. Killed at any
instant, nothing half is visible; the same request again adopts the bytes that stand already, and skips the files that
are registered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nightmill.backbone.catalogue.stores import store_ids
from nightmill.errors import RequestRefused, UnknownName
from nightmill.files.recognition import Sorting
from nightmill.model.origin import Origin
from nightmill.operations.acts import Act
from nightmill.operations.ingest.arrivals import Refused
from nightmill.operations.ingest.finding import find_files
from nightmill.operations.ingest.lots import Intake, Lot, Offer, storable
from nightmill.operations.ingest.placement import Mode, Placement
from nightmill.operations.site import Site

LOT: Final = 500
"""Files that become visible together."""
THREADS: Final = 8
"""A durable copy waits for the disk most of its time."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that is in the catalogue, and where it came from."""

    path: Path
    name: str
    type: str
    left_out: tuple[str, ...] = ()
    """What its header has for optional keys and is not a value."""


@dataclass
class IngestResult:
    """What became of each file."""

    wanted: list[Offer] = field(default_factory=list)
    """Of a dry run: what would be registered of each file that would be taken in."""
    registered: list[Taken] = field(default_factory=list)
    skipped: list[Taken] = field(default_factory=list)
    """In the catalogue before, with the same bytes."""
    refused: list[Refused] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)
    """Registered, but not removed where they came from (mode move): no copy that is sure, or no right to."""
    hidden: list[Path] = field(default_factory=list)
    """Files and folders that were passed over, as their names begin with a dot."""
    found: int = 0
    """Files and links that were found: those that are not in one of the lists were not come to."""


def ingest(
    site: Site,
    paths: Sequence[Path],
    *,
    origin: Origin,
    type: str = "",
    who: str | None = None,
    provenance: str = "",
    mode: Mode = Mode.COPY,
    store: str = "",
    folder: str = "",
    follow_links: bool = False,
    dry_run: bool = False,
    report: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
    result: IngestResult | None = None,
) -> IngestResult:
    """Take files into the backbone.

    Parameters
    ----------
    site
        Whose catalogue and stores.
    paths
        Files, and folders with all below them.
    origin
        ``raw``: the files keep their names, and no process before them is claimed. ``manual``: they get unique names,
        and the old ones are kept.
    type
        The file type of all of them; empty where each is sorted into the one type whose ``recognise`` it fulfils.
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    provenance
        Where the files come from, in the user's words: required of origin ``manual``.
    store
        Which of the site's; by default the first that can be written.
    folder
        Of the store, where the files go, or lie already where it is read-only; by default ``raw/NIGHT`` or
        ``manual/TYPE``.
    follow_links
        Whether symbolic links stand for what they point to, under their own names; otherwise they are refused.
    dry_run
        Whether it is only told what would become of the files: no row and no byte is written.
    report
        Is told after each lot how many files are done, of how many.
    tell
        Is told in words for whom this waits, where it does.
    result
        Is filled as it goes: what became of files is known also where it ends with an error.

    Raises
    ------
    RequestRefused
        Where the request makes no sense; nothing was done.
    StoreError, DatabaseAway
        Where the store or the database fails on the way: what was registered stays, and the same request goes on from
        there.
    """
    act = Act.begin(site, "ingest", who=who, why=provenance)
    sorting = _check(site, type, origin, provenance)
    if follow_links and mode is Mode.MOVE:
        raise RequestRefused(
            "a link that is moved leaves what it points to behind",
            remedy="use --mode copy, or leave --follow-links away",
        )
    store = _catalogued(site, store)
    placement = Placement(
        site.stagers[store],
        store,
        mode,
        site.private,
        folder=folder,
        is_read_only=site.config.stores[store].read_only,
        transfers=site.transfers,
        who=act.who,
        tell=tell,
    )
    found = find_files(paths, follow_links=follow_links)
    files = found.files
    result = IngestResult() if result is None else result
    result.hidden += found.hidden
    result.found += len(files) + len(found.refused)
    if not result.found:
        hidden = f", but for {len(found.hidden)} hidden" if found.hidden else ""
        raise RequestRefused(
            f"there are no files in {', '.join(map(str, paths))}{hidden}", remedy="name files, or their folder"
        )
    if not dry_run:
        detail = {"type": type, "origin": origin, "mode": mode, "store": store, "files": len(files)}
        stores = site.config.stores
        act.write(" ".join(map(storable, paths)), lambda session: store_ids(session, stores), lambda _: detail)
    with ThreadPoolExecutor(THREADS) as pool, ExitStack() as leaving:
        leaving.callback(setattr, placement, "stopping", True)
        leaving.callback(pool.shutdown, wait=False, cancel_futures=True)  # Ctrl-C does not read on to the lot's end
        intake = Intake(site, sorting, origin, provenance.strip(), placement, act.who, pool)
        if dry_run:  # in one lot: names of files that are not registered are not in the way of later ones
            lot = intake.look(files, found.refused)
            result.wanted += lot.wanted
            result.skipped += map(_taken, lot.skipped)
            result.refused += lot.refused
            return result
        for start in range(0, max(len(files), 1), LOT):
            lot = intake.take_in(files[start : start + LOT], () if start else found.refused)
            _add(result, lot, placement)
            if lot.failure is not None:
                raise lot.failure
            if report is not None:
                report(min(start + LOT, len(files)), len(files))
    return result


def _check(site: Site, type: str, origin: Origin, provenance: str) -> Sorting:
    known = site.config.file_types
    if type and type not in known:
        raise UnknownName("file type", type, sorted(known))
    types = [each for each in known.values() if each.recognise]
    if not type and not types:
        raise RequestRefused(
            "no file type of the site has 'recognise', by which files are sorted",
            remedy="say --type, or write 'recognise' in the file types",
        )
    if origin is Origin.BATCH:
        raise RequestRefused(
            "files of origin batch are registered with the execution that made them", remedy="use origin raw or manual"
        )
    if origin is Origin.MANUAL and not provenance.strip():
        raise RequestRefused("a manual file needs a word on where it comes from", remedy='add --provenance "..."')
    if origin is Origin.RAW and provenance:
        raise RequestRefused(
            "nothing before a raw file is known or claimed", remedy="drop --provenance, or use --origin manual"
        )
    return Sorting(types, known[type] if type else None)


def _catalogued(site: Site, store: str) -> str:
    known = [name for name, each in site.config.stores.items() if each.catalogued]
    if store and store not in known:
        raise UnknownName("store", store, known)
    return store or next(name for name in known if not site.config.stores[name].read_only)


def _add(result: IngestResult, lot: Lot, placement: Placement) -> None:
    result.registered += map(_taken, lot.registered)
    result.skipped += map(_taken, lot.skipped)
    result.refused += lot.refused
    if placement.mode is Mode.MOVE:
        done = [*lot.registered, *lot.skipped]
        result.left += [each.arrival.path for each in done if not placement.remove_source(each.arrival, each.path)]


def _taken(offer: Offer) -> Taken:
    return Taken(offer.arrival.path, offer.new.name, offer.new.type, offer.arrival.inspection.metadata.left_out)
