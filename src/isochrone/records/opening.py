"""Records in DuckDB: an epoch's files as tables that anybody can ask.

Every kind of file is a view of its name. The lists in the single rows of ``chain`` and ``books``
have views of their own, a row an entry: ``bonds``, ``funds``, ``accounts``, ``held``, ``purposes``,
``pools``, ``windows``, ``counted``. The books are those *before* the epoch, as its settlement took
them.

What it does not do: verify records (``isochrone audit`` does); only the files' digests are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from isochrone.records.manifest import copy
from isochrone.records.store import Store
from isochrone.schema.errors import InvalidInput
from isochrone.schema.settlement import Manifest

ROWS_SHOWN = 10_000
"""Of one answer; a query can count and limit by itself."""

_LISTS = {
    "chain": ("bonds", "funds"),
    "books": ("held", "purposes", "windows", "counted", "suspects", "barred"),
}
_AMOUNTS = {"accounts": "account", "pools": "metro"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A query's columns and rows; ``more``: rows beyond ``ROWS_SHOWN`` were left out."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool = False


class Opened:
    """An epoch's records, open; close it after use."""

    def __init__(self, manifest: Manifest, connection: duckdb.DuckDBPyConnection) -> None:
        self.manifest = manifest
        self._connection = connection

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back; the files stay."""
        self._connection.close()

    @property
    def views(self) -> tuple[str, ...]:
        """The names that can be asked."""
        found = self._connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal")
        return tuple(sorted(name for (name,) in found.fetchall()))

    def ask(self, sql: str) -> Answer:
        """Run one statement; raises InvalidInput with DuckDB's words."""
        try:
            result = self._connection.execute(sql)
            rows = result.fetchmany(ROWS_SHOWN + 1) if result.description else []
        except duckdb.Error as error:
            raise InvalidInput(
                f"DuckDB refuses: {str(error).strip()}", fix=f"There are {', '.join(self.views)}."
            ) from error
        columns = tuple(column[0] for column in result.description or ())
        return Answer(columns, tuple(rows[:ROWS_SHOWN]), len(rows) > ROWS_SHOWN)


def open_epoch(records: str | Path, epoch: int, folder: Path, *, manifest: str = "") -> Opened:
    """Bring an epoch's files into ``folder`` and open them. Blocking.

    ``records``: a store's folder or URL. ``manifest``: its digest, if known from the chain; empty:
    the one that the store names. Raises as ``Store`` and ``manifest.fetch``.
    """
    source, kept = Store.open(records), Store.open(folder)
    digest = manifest or source.published(epoch).statement.manifest
    found = copy(source, kept, digest)
    if found.epoch != epoch:
        raise InvalidInput(f"That manifest is of epoch {found.epoch}, not {epoch}.")
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    connection = duckdb.connect(":memory:", config=settings)
    kinds = []
    for file in found.files:
        path = str(folder.absolute() / "sha256" / file.sha256).replace("'", "''")
        connection.execute(f"CREATE VIEW {file.kind} AS SELECT * FROM read_parquet('{path}')")
        kinds.append(file.kind)
    for statement in _views(kinds):
        connection.execute(statement)
    return Opened(found, connection)


def _views(kinds: list[str]) -> Iterator[str]:
    for kind, names in _LISTS.items():
        for name in names if kind in kinds else ():
            yield (
                f"CREATE VIEW {name} AS SELECT entry.* FROM "
                f"(SELECT unnest({kind}.{name}) AS entry FROM {kind})"
            )
    for name, label in _AMOUNTS.items() if "books" in kinds else ():
        yield (
            f"CREATE VIEW {name} AS SELECT entry.key AS {label}, entry.value AS amount_microusd "
            f"FROM (SELECT unnest(map_entries(books.{name})) AS entry FROM books)"
        )


def prompt(
    opened: Opened, read: Callable[[], str | None], show: Callable[[Answer | str], None]
) -> None:
    """Ask and answer until ``read`` gives None (the end of input) or ``exit``.

    ``read`` returns a line; ``show`` gets answers, and errors as sentences.
    """
    while (line := read()) is not None and line.strip().lower() not in ("exit", "quit"):
        if not line.strip():
            continue
        try:
            show(opened.ask(line))
        except InvalidInput as error:
            show(error.sentence())
