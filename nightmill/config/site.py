"""The site: where everything is, as ``nightmill.yaml`` says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from nightmill.config.build import build, raise_all
from nightmill.config.changes import Defaults
from nightmill.config.confinement import confinement_of
from nightmill.config.containers import containers_of
from nightmill.config.credentials import check_credentials
from nightmill.config.database_url import database_url
from nightmill.config.document import Document, Key, Plain, dotted, load_document
from nightmill.config.engines import engines_of
from nightmill.config.file_types import read_file_types
from nightmill.config.keys import indexed_keys, keys_of
from nightmill.config.layers import NOTHING, SITE, Tree, tree_of
from nightmill.config.logs import logs_of
from nightmill.config.partners import partners_of, unknown_types
from nightmill.config.rules import check_fit
from nightmill.config.secrets import known_secrets
from nightmill.config.server import ServerConfig, check_server
from nightmill.config.stores import home_of, stores_of
from nightmill.config.tilings import tilings_of
from nightmill.errors import ConfigError, ConfigErrors
from nightmill.model.access import Access
from nightmill.model.base import Frozen
from nightmill.model.confinement import Confinement, NodeConfinement
from nightmill.model.container import Containers
from nightmill.model.credential import Credential
from nightmill.model.dimensions import KeyType
from nightmill.model.engine import EngineSetting
from nightmill.model.file_type import FileType
from nightmill.model.footprint import Tiling
from nightmill.model.logs import LogsConfig
from nightmill.model.node import NetworkPaths, SoftwareRules
from nightmill.model.notification import Notifier
from nightmill.model.partner import Partner
from nightmill.model.secrets import filled, missing
from nightmill.model.store import Store

SITE_FILE: Final = "nightmill.yaml"
SITE_VARIABLE: Final = "NIGHTMILL_SITE"
SECRETS_FILE: Final = ".nightmill/secrets"
"""Below the folder of a site: what ``${NAME}`` stands for, for its owner alone; see :mod:`nightmill.config.secrets`."""
SITE_ID_FILE: Final = ".nightmill/site-id"
"""Below the folder of a site: the key by which its catalogue knows it; see :mod:`nightmill.operations.identity`."""
READER_FILE: Final = ".nightmill/reader.json"
"""Below the folder of a site: the role that PostgreSQL is asked as where nothing may be changed."""
_URLS: Final = ("database", "url")
"""Keys whose values are URLs."""


class RetentionConfig(Frozen):
    """How long is kept what nobody may need any more; without a value, for ever."""

    journals_days: int | None = Field(default=30, ge=1)
    """Journals that are recorded to their end, and in a verified backup of the database."""
    held_days: int | None = Field(default=30, ge=1)
    """Files that failed attempts left for another to take, where their stages say ``keep_on_failure``."""
    logs_days: int | None = Field(default=30, ge=1)
    """Logs of the server and the runner that were set aside."""
    flow_runs_days: int | None = Field(default=30, ge=1)
    """Flow runs of Prefect that have ended, with their task runs, logs and artifacts."""


@dataclass(frozen=True)
class SiteConfig:
    """A site.

    Parameters
    ----------
    directory
        The folder of its nightmill.yaml, absolute, as are all paths in here.
    database_url
        Of the catalogue, as :class:`~nightmill.backbone.database.Database` takes it: with references to what is secret.
    stores
        By name, working areas included (these are not catalogued); their URLs have a scheme.
    operators
        The users that may do what changes the site; none named means everyone.
    wrong_types
        What is wrong with its file types, where it was loaded all the same; ``file_types`` has those that are right.
    access
        Who besides the operator may read its folders, database and journals.
    secrets
        What ``${NAME}`` stands for: the environment, and the site's file of secrets where it has one.
    indexed
        Keys of metadata that have an index, with their types.
    tilings
        How it cuts the sky into tiles, by name.
    defaults
        What it sets for every campaign: a layer below all others.
    notify
        Whom to tell of what campaigns come to.
    credentials
        What lets it in elsewhere, for a while.
    containers
        What its hosts run images with.
    network_paths
        What becomes of steps that depend on network mounts.
    software
        What becomes of steps whose software is new.
    logs
        What becomes of the logs of jobs; files that it names are absolute.
    confinement
        How its steps are confined.
    engines
        Where its jobs may be carried out, by name; ``threads`` is one of them.
    partners
        Sites of the catalogue whose stores it can read, by their names there.
    """

    name: str
    directory: Path
    database_url: str
    scratch: Path
    spool: Path
    cache: Path
    stores: Mapping[str, Store]
    file_types: Mapping[str, FileType]
    server: ServerConfig
    operators: tuple[str, ...] = ()
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    wrong_types: tuple[ConfigError, ...] = ()
    access: Access = Access.PRIVATE
    secrets: Mapping[str, str] = field(default_factory=dict)
    indexed: Mapping[str, KeyType] = field(default_factory=dict)
    tilings: Mapping[str, Tiling] = field(default_factory=dict)
    defaults: Tree = NOTHING
    notify: tuple[Notifier, ...] = ()
    credentials: tuple[Credential, ...] = ()
    containers: Containers = field(default_factory=Containers)
    network_paths: NetworkPaths = NetworkPaths.WARN
    software: SoftwareRules = field(default_factory=SoftwareRules)
    logs: LogsConfig = field(default_factory=LogsConfig)
    confinement: NodeConfinement = field(default_factory=NodeConfinement)
    engines: Mapping[str, EngineSetting] = field(default_factory=dict)
    partners: Mapping[str, Partner] = field(default_factory=dict)

    @property
    def keys(self) -> Mapping[str, KeyType]:
        """Every key that files may have at the site, with the type of its values."""
        return keys_of(self.file_types)

    @property
    def transfers(self) -> Mapping[str, int]:
        """How many transfers run at a time with a store from each host, for the stores where that is limited."""
        return {name: store.transfers for name, store in {**self.stores, **self.far_stores}.items() if store.transfers}

    @property
    def far_stores(self) -> Mapping[str, Store]:
        """The stores of its partners, by SITE:STORE, those of the partner that stands first before others."""
        return {store.name: store for partner in self.partners.values() for store in partner.stores.values()}

    def __repr__(self) -> str:
        return f"SiteConfig({self.name!r}, {str(self.directory)!r})"


class SiteFile(Frozen):
    """Where everything of a site is, and how it works.

    Paths are relative to the folder of the document; ``${NAME}`` stands for an environment variable or a secret.
    """

    site: str
    """Name of the site."""
    database: str = "sqlite:///nightmill.db"
    """URL of the catalogue: SQLite for one machine, PostgreSQL for shared use."""
    scratch: str = "scratch"
    """Folder that jobs run in: fast, local to each node, empty of anything else."""
    spool: str = "spool"
    """Folder that jobs journal to: on storage that every node sees."""
    cache: str = "cache"
    """Folder of what the jobs of a host share, as unpacked bundles; on a node's own disk."""
    file_types: tuple[str, ...]
    """Documents of file types; the last part of a path may be a pattern, as in ``types/*.yaml``."""
    stores: Mapping[str, Any]
    """Places for files that the catalogue knows, by name; outputs go to ``backbone`` by default."""
    working_areas: Mapping[str, Any] = Field(default_factory=dict)
    """Places that outputs can be delivered to without being registered, by name."""
    server: ServerConfig = ServerConfig()
    """The Prefect server that ``nightmill server start`` runs."""
    operators: tuple[str, ...] = ()
    """Users that may do what changes the site; none named means everyone."""
    retention: RetentionConfig = RetentionConfig()
    """How long is kept what would grow for ever."""
    access: Access = Access.PRIVATE
    """Who besides the operator may read the site."""
    indexed: tuple[str, ...] = ()
    """Keys of metadata that files are often selected by; ``nightmill init`` makes an index of each."""
    tilings: Mapping[str, Any] = Field(default_factory=dict)
    """How the sky is cut into tiles, by name."""
    notify: tuple[Notifier, ...] = ()
    """Whom to tell of what campaigns come to."""
    defaults: Defaults = Defaults()
    """What it sets for every campaign, below what pipelines and campaigns say."""
    credentials: tuple[Credential, ...] = ()
    """What lets it in elsewhere for a while: looked at before anything begins."""
    containers: Containers = Containers()
    """What steps that name an image are run with."""
    network_paths: NetworkPaths = NetworkPaths.WARN
    """What becomes of steps whose programs or files lie on network mounts: ``allow``, ``warn`` or ``refuse``."""
    software: SoftwareRules = SoftwareRules()
    """What becomes of steps whose software is new to the site."""
    logs: LogsConfig = LogsConfig()
    """What becomes of the logs of jobs."""
    confinement: Confinement = Confinement()
    """What steps may reach and take, beside what their orders give them."""
    engines: Mapping[str, Any] = Field(default_factory=dict)
    """Where jobs may be carried out, by names that campaigns give as ``execution.engine``."""
    partners: Mapping[str, Any] = Field(default_factory=dict)
    """Other sites of the catalogue, by their names there: how their stores are read, and what is shipped from them."""


def find_site(directory: Path | None = None) -> Path:
    """Find the folder of a site.

    Parameters
    ----------
    directory
        The folder itself; by default that which the variable ``NIGHTMILL_SITE`` names, else the nearest one with a
        nightmill.yaml, from the working directory upwards.

    Raises
    ------
    ConfigError
        Where there is none.
    """
    named_by = "--site"
    if directory is None and os.environ.get(SITE_VARIABLE):
        directory, named_by = Path(os.environ[SITE_VARIABLE]), SITE_VARIABLE
    if directory is not None:
        found = home_of(str(directory)).resolve()
        if not (found / SITE_FILE).is_file():
            raise ConfigError(
                f"{found} is not a site: it has no {SITE_FILE}",
                where=named_by,
                remedy=f"make one: nightmill init {directory}",
            )
        return found
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / SITE_FILE).is_file():
            return folder
    raise ConfigError(
        f"no site: neither {here} nor a folder above it has a {SITE_FILE}",
        remedy=f"make one with nightmill init DIR, or name one with --site DIR or {SITE_VARIABLE}",
    )


def load_site(directory: Path | None = None, *, need_types: bool = True) -> SiteConfig:
    """Load the configuration of a site.

    Parameters
    ----------
    directory
        As :func:`find_site` takes it.
    need_types
        Whether what is wrong with its file types is an error; else ``wrong_types`` has it.

    Raises
    ------
    ConfigErrors
        Everything that is wrong with its nightmill.yaml, then with its file types, each with file, line and key.
    ConfigError
        Where there is no site, or its nightmill.yaml cannot be read at all.
    """
    folder = find_site(directory)
    document = load_document(folder / SITE_FILE)
    errors: list[ConfigError] = []
    secrets = known_secrets(folder / SECRETS_FILE)
    data = _with_variables(document.data, (), document, errors, secrets)
    try:
        file = build(SiteFile, data, document.where)
    except ConfigErrors as error:
        raise ConfigErrors([*errors, *error.errors]) from error
    errors += [ConfigError(text, where=document.where(("site",))) for text in check_fit("site name", file.site)]
    stores = stores_of(file.stores, file.working_areas, file.access, folder, document, errors)
    partners = partners_of(file.partners, stores, folder, document, errors)
    paths = _file_type_paths(file, folder, document, errors)
    written = document.data
    url = database_url(file.database, str(written.get("database", "")), folder, document, errors)
    check_server(file.server, document, errors)
    check_credentials(file.credentials, document, errors)
    containers = containers_of(file.containers, lambda path: folder / home_of(path), document, errors)
    tilings = tilings_of(file.tilings, folder, document, errors)
    engines = engines_of(file.engines, document, errors)
    raise_all(errors)
    file_types, wrong_types = read_file_types(paths, paths)
    indexed = {} if wrong_types else indexed_keys(file.indexed, file_types, document, errors)
    errors += [] if wrong_types else unknown_types(partners, file_types, document)
    raise_all([*errors, *(wrong_types if need_types else ())])
    places = [store.folder for store in stores.values() if store.folder is not None]
    closed = [*places, folder / Path(SECRETS_FILE).parent, folder / SITE_FILE]
    return SiteConfig(
        name=file.site,
        directory=folder,
        database_url=url,
        scratch=folder / home_of(file.scratch),
        spool=folder / home_of(file.spool),
        cache=folder / home_of(file.cache),
        stores=stores,
        file_types=file_types,
        server=file.server.model_copy(update=_written(written.get("server"), ("database", "auth"))),
        operators=file.operators,
        retention=file.retention,
        wrong_types=tuple(wrong_types),
        access=file.access,
        secrets=secrets,
        indexed=indexed,
        tilings=tilings,
        defaults=tree_of(Document(data, document.name, document.lines), SITE).below("defaults"),
        notify=file.notify,
        credentials=file.credentials,
        containers=containers,
        network_paths=file.network_paths,
        software=file.software,
        logs=logs_of(file.logs, folder),
        confinement=confinement_of(file.confinement, folder, closed, url),
        engines=engines,
        partners=partners,
    )


def _with_variables(
    value: Plain, key: Key, document: Document, errors: list[ConfigError], secrets: Mapping[str, str]
) -> Plain:
    """Put in the values of ``${VARIABLES}``, quoted where they are part of a URL."""
    if isinstance(value, dict):
        return {name: _with_variables(each, (*key, name), document, errors, secrets) for name, each in value.items()}
    if isinstance(value, list):
        return [_with_variables(each, (*key, number), document, errors, secrets) for number, each in enumerate(value)]
    if not isinstance(value, str):
        return value

    errors += [
        ConfigError(
            f"{dotted(key)} needs the environment variable {name!r}, which is not set",
            where=document.where(key),
            remedy=f"export {name}=...; or write that into {SECRETS_FILE}; a dollar sign itself is written $$",
        )
        for name in missing(value, secrets)
    ]
    return filled(value, secrets, url=key[-1] in _URLS)


def _file_type_paths(file: SiteFile, folder: Path, document: Document, errors: list[ConfigError]) -> dict[Path, str]:
    """Return the paths of the file type documents, each with the place that names it."""
    paths: dict[Path, str] = {}
    for number, pattern in enumerate(file.file_types):
        key: Key = ("file_types", number)
        where = document.where(key)
        base = folder / home_of(pattern)
        found = [base]
        if "*" in base.name:
            # glob() itself raises ValueError for some patterns, as **.yaml.
            found = [each for each in sorted(base.parent.glob("*")) if fnmatchcase(each.name, base.name)]
        if not found:
            errors.append(ConfigError(f"{dotted(key)}: no file is like {pattern!r}", where=where))
        for path in found:
            paths.setdefault(path, where)
    return paths


def _written(body: Plain, names: tuple[str, ...]) -> dict[str, Plain]:
    """Return values as they are written: with references to what is secret."""
    return {name: body[name] for name in names if name in body} if isinstance(body, dict) else {}
