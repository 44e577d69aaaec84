"""From a manifest to its books and statement: what proposers, reviewers and late-comers all do."""

from __future__ import annotations

import msgspec

from isochrone.records.manifest import content
from isochrone.records.store import Store
from isochrone.rules.roots import statement
from isochrone.rules.settlement import settle
from isochrone.schema.settlement import EpochInput, Manifest, RootStatement, Settlement
from isochrone.validator.checking import check


class Computed(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch recomputed: what went in, the books and lines that came out, what is signed."""

    manifest: Manifest
    inputs: EpochInput
    settlement: Settlement
    statement: RootStatement


def recompute(store: Store, manifest: Manifest) -> Computed:
    """Check every record in a store's files of a manifest and settle. Blocking, seconds.

    Raises FalseRecord for the first record that does not hold, and what the store raises.
    """
    inputs = check(manifest, lambda file: content(store, file))
    made = settle(inputs)
    return Computed(
        manifest=manifest,
        inputs=inputs,
        settlement=made,
        statement=statement(made.books, manifest),
    )
