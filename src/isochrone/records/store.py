"""The content-addressed store: bytes by their SHA-256, wherever obstore can reach.

Intuition: a name that is the content's digest cannot lie. Whoever has a digest from the chain can
take the bytes from anybody: a folder, a bucket, or a stranger's web server, because what comes
back is hashed before it is believed.

Layout: ``sha256/<64 hex digits>`` holds files, ``epochs/<epoch>.json`` names an epoch's manifest
and root (``PublishedEpoch``; found, not proven). Files are never changed, so writing one twice is
harmless. In a local folder a written file survives a power failure; other stores promise that
themselves. Stores over HTTP are read, never written.

What it does not do: collect garbage, list files (HTTP cannot), or judge what a file means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec
import obstore
from obstore import exceptions as foreign
from obstore import store as stores

from isochrone.records.durable import sync
from isochrone.schema.digests import UNREADABLE, canonical, sha256_hex
from isochrone.schema.errors import Forbidden, InvalidInput, NotFound, TooLarge, Unavailable
from isochrone.schema.settling import PublishedEpoch

FILE_BYTES_MAX = 2 * 1024**3
"""Larger files are neither written nor read: 10,000 chains of an hour are about 0.4 GB."""

EPOCH_BYTES_MAX = 1024**2
"""An epoch's entry holds two digests and a signature per validator."""

TIMEOUT_S = 60.0
"""For one whole answer of a store over the network."""

RETRIES = 3

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK_BYTES = 4 * 1024**2


class Store:
    """One place of files; ``open`` builds it. Every method blocks: call it in a thread."""

    def __init__(self, store: stores.ObjectStore, name: str, folder: Path | None) -> None:
        self._store = store
        self._folder = folder
        self._readonly = isinstance(store, stores.HTTPStore)
        self.name = name

    def __repr__(self) -> str:
        return f"Store({self.name})"

    @classmethod
    def open(
        cls, place: str | Path, *, timeout_s: float = TIMEOUT_S, retries: int = RETRIES
    ) -> Store:
        """The store at a folder or a URL: ``file``, ``s3``, ``http`` ….

        A ``Path`` is a folder of one's own and created; text is somebody's word, which creates
        nothing. Credentials of buckets come from their usual environment variables.
        Raises InvalidInput for a URL that nothing here opens, NotFound for a folder that is not
        there.
        """
        own = isinstance(place, Path)
        if isinstance(place, str) and place.startswith("file://"):
            place = url2pathname(urlsplit(place).path)
        if isinstance(place, Path) or "://" not in place:
            folder = Path(place).absolute()
            if not own and not folder.is_dir():
                raise NotFound(f"{folder} is not a folder with records.")
            with _mapped(str(folder)):
                return cls(stores.LocalStore(folder, mkdir=own), str(folder), folder)
        try:
            remote = stores.from_url(
                place,
                client_options={"timeout": timedelta(seconds=timeout_s), "allow_http": True},
                retry_config={
                    "max_retries": retries,
                    "retry_timeout": timedelta(seconds=timeout_s),
                    "backoff": {"init_backoff": timedelta(milliseconds=200)},
                },
            )
        except (foreign.BaseError, ValueError) as error:
            raise InvalidInput(
                f"{place[:200]} cannot be opened as a store: {_first_line(error)}.",
                fix="Name a folder, or a URL that begins with file, s3, gs, az, http or https.",
            ) from error
        return cls(remote, place, None)

    def put(self, data: bytes) -> str:
        """Keep bytes; their SHA-256 hex. Raises TooLarge, Forbidden (HTTP), Unavailable."""
        digest = sha256_hex(data)
        if len(data) > FILE_BYTES_MAX:
            raise TooLarge(f"A file of {len(data)} bytes is over the limit of {FILE_BYTES_MAX}.")
        self._put(f"sha256/{digest}", data)
        return digest

    def get(self, digest: str, size_bytes_max: int = FILE_BYTES_MAX) -> bytes:
        """The bytes with that SHA-256.

        Raises NotFound, TooLarge (more than ``size_bytes_max``), InvalidInput (code
        ``corrupt_file``: other bytes under that name) and Unavailable.
        """
        data = self._get(_path_of(digest), size_bytes_max, f"the file {digest}")
        if (found := sha256_hex(data)) != digest:
            raise InvalidInput(
                f"{self.name} answers other bytes for the file {digest}: their SHA-256 is {found}.",
                fix="Take the file from another validator's store.",
                code="corrupt_file",
            )
        return data

    def has(self, digest: str) -> bool:
        """Whether there is a file of that name (its content is not read)."""
        try:
            with _mapped(self.name):
                obstore.head(self._store, _path_of(digest))
        except NotFound:
            return False
        return True

    def discard(self, digest: str) -> None:
        """Forget a file of a local folder; one that is not there is no error.

        Raises Forbidden for any other store.
        """
        if self._folder is None:
            raise Forbidden(f"{self.name} is not ours to clean up.", code="readonly")
        with _mapped(self.name):
            (self._folder / _path_of(digest)).unlink(missing_ok=True)

    def publish(self, entry: PublishedEpoch) -> None:
        """Write or replace an epoch's entry. Raises Forbidden (HTTP), Unavailable."""
        self._put(f"epochs/{entry.statement.epoch}.json", canonical(entry))

    def published(self, epoch: int) -> PublishedEpoch:
        """An epoch's entry, as somebody wrote it: check it against the chain.

        Raises NotFound, InvalidInput (unreadable, or of another epoch), Unavailable.
        """
        data = self._get(f"epochs/{epoch}.json", EPOCH_BYTES_MAX, f"an entry for epoch {epoch}")
        try:
            entry = msgspec.json.decode(data, type=PublishedEpoch)
        except UNREADABLE as error:
            raise InvalidInput(
                f"{self.name}: the entry of epoch {epoch} cannot be read: {error}."
            ) from error
        if entry.statement.epoch != epoch:
            raise InvalidInput(
                f"{self.name}: the entry of epoch {epoch} is one of epoch {entry.statement.epoch}."
            )
        return entry

    def _put(self, path: str, data: bytes) -> None:
        if self._readonly:
            raise Forbidden(
                f"{self.name} can only be read.",
                fix="Write to a folder or a bucket.",
                code="readonly",
            )
        with _mapped(self.name):
            obstore.put(self._store, path, data)
            if self._folder is not None:
                sync(self._folder / path)
                sync((self._folder / path).parent)

    def _get(self, path: str, size_bytes_max: int, what: str) -> bytes:
        chunks: list[bytes] = []
        size_bytes = 0
        with _mapped(self.name, what):
            answer = obstore.get(self._store, path)
            for chunk in answer.stream(min_chunk_size=_CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > size_bytes_max:
                    break
                chunks.append(bytes(chunk))
        if size_bytes > size_bytes_max:
            raise TooLarge(f"{self.name}: {what} is larger than {size_bytes_max} bytes.")
        return b"".join(chunks)


def _path_of(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"{digest[:80]!r} is not a SHA-256 in lower-case hex.")
    return f"sha256/{digest}"


@contextmanager
def _mapped(name: str, what: str = "the file") -> Iterator[None]:
    """Turn what obstore and the disk raise into ours."""
    try:
        yield
    except (foreign.NotFoundError, FileNotFoundError) as error:
        raise NotFound(f"{name} does not have {what}.") from error
    except (foreign.PermissionDeniedError, foreign.UnauthenticatedError) as error:
        raise Forbidden(f"{name} refuses: {_first_line(error)}.") from error
    except (foreign.BaseError, OSError, ValueError) as error:
        raise Unavailable(
            f"{name} does not answer as a store: {_first_line(error)}.",
            fix="Try again, or use another validator's store.",
        ) from error


def _first_line(error: BaseException) -> str:
    """The sentence of a foreign error without its debugging tail."""
    return str(error).strip().split("\n", 1)[0][:300].rstrip(".")
