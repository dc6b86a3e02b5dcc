"""Alembic's entry: runs the migrations on the connection that the caller hands over.

SQLite makes a table anew to change it. References to the old one are looked at when everything is in its place.
"""

from __future__ import annotations

from alembic import context

from nightmill.backbone.schema import Base

connection = context.config.attributes["connection"]
is_sqlite = connection.dialect.name == "sqlite"
if is_sqlite:
    connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=OFF")
try:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=is_sqlite,
        transaction_per_migration=not is_sqlite,
    )
    with context.begin_transaction():
        context.run_migrations()
        if is_sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()) is not None:
            raise AssertionError(f"a migration breaks references from table {broken[0]} to {broken[2]}")
    connection.commit()
finally:
    if is_sqlite:
        connection.connection.dbapi_connection.execute("PRAGMA foreign_keys=ON")
