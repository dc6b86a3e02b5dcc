"""What a new site begins with: the text of its nightmill.yaml and of its first file types."""

from __future__ import annotations

from typing import Final

_SITE: Final = """\
# The configuration of a nightmill site. Paths are relative to this folder; ${{NAME}} is replaced by the environment
# variable of that name, $$ by a dollar sign.
site: "{name}"

# The catalogue. SQLite serves one machine; for shared use: postgresql+psycopg://user:${{PGPASSWORD}}@host/nightmill
database: {database}

# Where jobs run; fast, local to each node, and empty of anything else.
scratch: scratch
# Where jobs journal what they do; on storage that every node sees, never on a node's own disk.
spool: spool
# What the jobs of a host share, as the folders of pipelines; on a node's own disk. It may be removed at any time.
cache: cache

# Kinds of files: how they are named, read and checked.
file_types:
  - file_types.yaml

# Places for files that the catalogue knows. 'backbone' is where outputs go by default.
stores:
  backbone:
    url: stores/backbone
    kind: disk          # disk, object, tape or enclave
    verify: size        # what stage-in checks: size, or checksum (reads each input once more)

# Places that outputs can be delivered to without being registered ('to: quicklook' in a pipeline).
working_areas:
  quicklook:
    url: areas/quicklook

# Who may read the site: private (its owner), group (the group of this folder, which may also work in it), or all.
# Stores have this key, too, for the files in them.
access: private

# Keys of metadata that files are often selected by; 'nightmill init' makes an index of each.
# indexed: [target]

# Other sites of the same catalogue, by their names: how their stores are read, and what may be shipped from there.
# partners: {{ncsa: {{stores: {{backbone: {{url: "sftp://ncsa.example.org/data/backbone"}}}}, ship: all}}}}

# Who may do what changes the site; without this, everyone.
# operators: [alice, bob]

# How long to keep what would grow for ever; journals only go once a verified backup of the database holds them.
# retention: {{journals_days: 30, held_days: 30, logs_days: 30, flow_runs_days: 30}}

# The Prefect server that 'nightmill server start' runs for this site.
server:
  host: 127.0.0.1       # it has one shared credential and no roles: leave it on loopback, or put a TLS proxy before it
  port: 0               # 0: a free one
  slices: 2             # slices of campaigns that are worked on at a time
  # database: postgresql+asyncpg://user:${{PGPASSWORD}}@host/prefect
  # auth: operator:${{NIGHTMILL_SERVER_PASSWORD}}   # without it a random one, in .nightmill/server/secret
  # hosts: [nightmill.example.org]                # the name of a TLS proxy before it
"""

_FILE_TYPES: Final = """\
# Kinds of files of this site. 'metadata' says what is wanted of a header, under the name that the catalogue gives it.
# The dimensions (instrument, night, exposure, detector, band, tile, run), begins_at and ends_at become columns.
file_types:
  raw_science:
    description: Raw science exposure of one detector
    format: fits
    metadata:
      instrument: {keywords: [INSTRUME], required: true}
      exposure: {keywords: [EXPNUM, OBSNUM], type: int, required: true}
      detector: {keywords: [CCDNUM], type: int, required: true}
      band: {keywords: [FILTER, FILTER1]}           # values: {"r DECam": r} turns what a header says to a band
      # A date alone takes its time of day from TIME-OBS, UT or UTSTART; times are UTC, or of the header's TIMESYS.
      begins_at: {keywords: [DATE-OBS, MJD-OBS], type: time, required: true}
      exposure_seconds: {keywords: [EXPTIME, EXPOSURE], type: float, unit: s, min: 0}  # minutes? keyword_unit: min
      ends_at: {compute: "end_of(begins_at, exposure_seconds)"}
      night: {compute: "night_of(begins_at, 0.0)"}  # the local night; the longitude of the telescope, degrees east
    checks: {checksum: if_present}

  # A type that pipelines make has a template for its names.
  catalog:
    description: Sources of one exposure
    format: fits
    template: "{instrument}_{exposure:08d}_{detector:02d}_catalog_c{campaign:04d}a{attempt:02d}.fits"
    checks: {min_hdus: 2}
"""


def site_text(name: str, database: str = "sqlite:///nightmill.db") -> str:
    """Return the text of a new site's nightmill.yaml.

    Parameters
    ----------
    name
        Of the site.
    database
        URL of its catalogue.
    """
    return _SITE.format(name=name, database=database)


def file_types_text() -> str:
    """Return the text of a new site's file_types.yaml."""
    return _FILE_TYPES
