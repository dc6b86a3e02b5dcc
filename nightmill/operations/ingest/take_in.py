"""Taking files in: raw ones from an instrument, manual ones from a person.

Files are taken in some hundreds at a time, and what is wrong with one of them stops none of the others. Killed at any
instant, nothing half is visible; the same request again adopts the bytes that stand already, and skips the files that
are registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nightmill.backbone.catalogue.stores import store_ids
from nightmill.errors import RequestRefused, UnknownName
from nightmill.files.recognition import Sorting
from nightmill.model.base import storable
from nightmill.model.file_warning import FileWarning
from nightmill.model.origin import Origin
from nightmill.operations.acts import Act
from nightmill.operations.ingest.arrivals import Offered, Refused
from nightmill.operations.ingest.far import Places, brought_here, far_lots, find_in, named_places
from nightmill.operations.ingest.finding import Found, find_files
from nightmill.operations.ingest.lots import Intake, Lot, Offer
from nightmill.operations.ingest.placement import Mode, Placement
from nightmill.operations.site import Site

LOT: Final = 500
"""Files that become visible together."""
THREADS: Final = 8
"""A durable copy waits for the disk most of its time."""
_DONE: Final = {Mode.LINK: "linked", Mode.MOVE: "moved"}


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that is in the catalogue, and where it came from."""

    path: Path
    name: str
    type: str
    left_out: tuple[str, ...] = ()
    """What its header has for optional keys and is not a value."""
    warnings: tuple[FileWarning, ...] = ()
    """What those checks of its type found that hold no file back."""


@dataclass
class IngestResult:
    """What became of each file."""

    wanted: list[Offer] = field(default_factory=list)
    """Of a dry run: what would be registered of each file that would be taken in."""
    registered: list[Taken] = field(default_factory=list)
    copied: list[Taken] = field(default_factory=list)
    """In the catalogue before, with the same bytes, and now in the store as well."""
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
    add_copies: bool = False,
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
        Files, and folders with all below them; ``STORE:PATH`` is what lies in a store of the site.
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
        Which of the site's; by default the first that can be written, or in place the one that the paths name.
    folder
        Of the store, where the files go, or lie already where it is read-only; by default ``raw/NIGHT`` or
        ``manual/TYPE``.
    follow_links
        Whether symbolic links stand for what they point to, under their own names; otherwise they are refused.
    add_copies
        Whether files that are registered, and not in the store, get a copy there; otherwise they are skipped.
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
    places = named_places(paths, site.config.stores)
    store = _store(site, store, mode, places)
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
    found = find_files(places.here, follow_links=follow_links)
    for name, path in places.far:
        find_in(site.stagers[name], name, path, found)
    total = len(found.files) + len(found.far)
    result = IngestResult() if result is None else result
    result.hidden += found.hidden
    result.found += total + len(found.refused)
    if not result.found:
        hidden = f", but for {len(found.hidden)} hidden" if found.hidden else ""
        raise RequestRefused(
            f"there are no files in {', '.join(map(str, paths))}{hidden}", remedy="name files, or their folder"
        )
    if not dry_run:
        detail = {"type": type, "origin": origin, "mode": mode, "store": store, "files": total}
        stores = site.config.stores
        act.write(" ".join(map(storable, paths)), lambda session: store_ids(session, stores), lambda _: detail)
    done = 0
    with ThreadPoolExecutor(THREADS) as pool, ExitStack() as leaving:
        leaving.callback(setattr, placement, "stopping", True)
        leaving.callback(pool.shutdown, wait=False, cancel_futures=True)  # Ctrl-C does not read on to the lot's end
        intake = Intake(site, sorting, origin, provenance.strip(), placement, act.who, pool, add_copies)
        for offered, refused in _lots(site, found, pool, whole=dry_run):
            if dry_run:
                lot = intake.look(offered, refused)
                result.wanted += lot.wanted
            else:
                lot = intake.take_in(offered, refused)
                result.left += _left(lot, placement)
            _add(result, lot)
            if lot.failure is not None:
                raise lot.failure
            done += len(offered)
            if report is not None:
                report(done, total)
    return result


def _lots(site: Site, found: Found, pool: Executor, *, whole: bool) -> Iterator[tuple[list[Offered], list[Refused]]]:
    """Yield lots of files, with what was refused of them before; those of stores are here as long as their lot.

    Parameters
    ----------
    whole
        Whether the files of this host are one lot: names of files that are not registered are not in the way of later
        ones.
    """
    refused, most = found.refused, max(len(found.files), 1) if whole else LOT
    for start in range(0, len(found.files), most):
        yield found.files[start : start + most], refused
        refused = []
    for lot in far_lots(found.far, LOT):
        with brought_here(site, lot, pool) as (offered, gone):
            yield offered, [*refused, *gone]
            refused = []
    if refused:
        yield [], refused


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


def _store(site: Site, store: str, mode: Mode, places: Places) -> str:
    """Return the store that files are taken into; refuse what cannot be done with files of stores."""
    if mode is Mode.IN_PLACE and not store and places.stores:
        store = places.stores[0]
    known = [name for name, each in site.config.stores.items() if each.catalogued]
    if store and store not in known:
        raise UnknownName("store", store, known)
    store = store or next(name for name in known if not site.config.stores[name].read_only)
    if places.far and mode in (Mode.LINK, Mode.MOVE):
        raise RequestRefused(
            f"{':'.join(places.far[0])} is not a file of this host, and cannot be {_DONE[mode]}",
            remedy="use --mode copy, or in-place",
        )
    if mode is Mode.IN_PLACE and not places.far and site.config.stores[store].folder is None:
        raise RequestRefused(
            f"store {store!r} is not a local folder", remedy=f"name files as they lie there: {store}:PATH"
        )
    return store


def _add(result: IngestResult, lot: Lot) -> None:
    result.registered += map(_taken, lot.registered)
    result.copied += map(_taken, lot.copied)
    result.skipped += map(_taken, lot.skipped)
    result.refused += lot.refused


def _left(lot: Lot, placement: Placement) -> list[Path]:
    """Remove the files whose copies are registered, where they are to be moved; return those that are left."""
    done = [*lot.registered, *lot.copied, *lot.skipped] if placement.mode is Mode.MOVE else []
    return [each.arrival.path for each in done if not placement.remove_source(each.arrival, each.path)]


def _taken(offer: Offer) -> Taken:
    new = offer.new
    return Taken(offer.arrival.shown, new.name, new.type, offer.arrival.inspection.metadata.left_out, new.warnings)
