"""Manifests: canonical or refused; copied whole or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from isochrone.lab.invented import Invented, Settled
from isochrone.records.manifest import KINDS, content, copy, fetch, file_of, parse
from isochrone.records.store import Store
from isochrone.schema.digests import canonical
from isochrone.schema.errors import InvalidInput, IsochroneError, NotFound
from isochrone.schema.settlement import Manifest


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "source")


@pytest.fixture
def settled(source: Store) -> Settled:
    network = Invented()
    before = network.settled(source, 5)
    return network.settled(source, 6, before.settlement.books, before.manifest.digest)


def changed(manifest: Manifest, **fields: object) -> bytes:
    return canonical(msgspec.structs.replace(manifest, **fields))


def test_a_manifest_is_found_under_its_digest(source: Store, settled: Settled) -> None:
    assert fetch(source, settled.manifest.digest) == settled.manifest
    assert tuple(file.kind for file in settled.manifest.files) == KINDS
    heads = file_of(settled.manifest, "heads")
    assert heads is not None
    assert heads.rows == len(settled.records.heads)
    assert file_of(settled.manifest, "nothing") is None


def test_anything_but_the_canonical_form_is_refused(settled: Settled) -> None:
    manifest = settled.manifest
    files = manifest.files
    data = canonical(manifest)
    assert parse(data) == manifest
    larger = msgspec.structs.replace(files[0], size_bytes=2**40)
    for bad in [
        data + b" ",
        data.replace(b'"round":0', b'"round":0,"more":1'),
        data[:-1],
        changed(manifest, files=files[1:]),
        changed(manifest, files=(files[1], files[0], *files[2:])),
        changed(manifest, files=(*files, files[0])),
        changed(manifest, files=(larger, *files[1:])),
        changed(manifest, epoch=-1),
        changed(manifest, round=-1),
    ]:
        with pytest.raises(InvalidInput):
            parse(bad)


def test_the_first_epoch_has_no_books(settled: Settled) -> None:
    first = changed(settled.manifest, files=settled.manifest.files[:-1])
    assert file_of(parse(first), "books") is None


def test_an_epoch_is_copied_whole_and_damage_is_repaired(
    source: Store, settled: Settled, tmp_path: Path
) -> None:
    target = Store.open(tmp_path / "target")
    assert copy(source, target, settled.manifest.digest) == settled.manifest
    assert fetch(target, settled.manifest.digest) == settled.manifest
    victim = settled.manifest.files[1]
    path = tmp_path / "target" / "sha256" / victim.sha256
    for damage in (path.read_bytes()[:-1], path.read_bytes() + b"x", b""):
        path.write_bytes(damage)
        with pytest.raises(IsochroneError):
            content(target, victim)
        copy(source, target, settled.manifest.digest)
        for file in settled.manifest.files:
            assert content(target, file) == content(source, file)


def test_a_withheld_or_changed_file_is_not_copied(
    source: Store, settled: Settled, tmp_path: Path
) -> None:
    victim = tmp_path / "source" / "sha256" / settled.manifest.files[2].sha256
    content = victim.read_bytes()
    victim.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(InvalidInput):
        copy(source, Store.open(tmp_path / "a"), settled.manifest.digest)
    victim.unlink()
    with pytest.raises(NotFound):
        copy(source, Store.open(tmp_path / "b"), settled.manifest.digest)
