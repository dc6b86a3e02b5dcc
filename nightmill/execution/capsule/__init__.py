"""A capsule: a folder with one job that runs by itself, without a site, a database or a server."""
