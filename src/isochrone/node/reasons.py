"""Why a lease is not serving, as everybody may read it: a code and a sentence of ours.

Intuition: a lease's state travels in digests and offers to every cell, inside its residency or
not. What an engine says may quote what it was given, so it stays in the log of the machine (and
goes to the gateways that the mask admits); the rest of the network learns the kind of trouble.

Rules: ``code: sentence``; sentences are written here and hold nothing that was received.
"""

from __future__ import annotations

from isochrone.schema.errors import IsochroneError

FETCH = {
    "wrong_digest": "The model's files are not those that were declared. Post them again with "
    "`isochrone apply`.",
    "not_found": "No gateway of the cell has the model's files. Post them again with "
    "`isochrone apply`.",
    "cache_full": "The model does not fit beside those that the node needs. Raise its "
    "cache_quota_bytes, or give it fewer replicas.",
    "disk_full": "The node's disk is full.",
    "cache_broken": "The node's disk cannot be read or written.",
    "residency": "No gateway inside the residency gives the model.",
    "unavailable": "The model cannot be fetched now; it is tried again.",
}

LOAD = {
    "invalid_input": "The engine does not accept the model or its options; the lease's log says "
    "why.",
    "no_upstream": "The node offers no upstream server of that name.",
    "provider_option": "The declaration sets an option of the upstream that is the provider's.",
    "overloaded": "The engine does not get the memory that it needs.",
    "timeout": "The model did not load in time. Raise load_timeout_s, or ask for more processor.",
    "unavailable": "The engine could not be started; the lease's log says why.",
}

EVICTED = "evicted: The files of a standby made room for a replica's."
DIED = "engine_died: The engine ended by itself and is being restarted; the lease's log says why."
GAVE_UP = "engine_gave_up: The engine ended too often; the lease's log says why."


def of_fetch(error: IsochroneError) -> str:
    """Why a model could not be fetched."""
    return _of(error, FETCH)


def of_load(error: IsochroneError) -> str:
    """Why an engine could not be started."""
    return _of(error, LOAD)


def _of(error: IsochroneError, sentences: dict[str, str]) -> str:
    code = error.code if error.code in sentences else "unavailable"
    return f"{code}: {sentences[code]}"
