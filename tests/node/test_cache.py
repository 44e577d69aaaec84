"""The model cache on a real disk: verification, resume, quota, a full disk."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from isochrone.node.cache import Cache
from isochrone.schema.errors import InvalidInput, Overloaded, Unavailable

MIB = 1024 * 1024


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def store(cache: Cache, data: bytes, keep: set[str] | None = None) -> Path:
    part = cache.begin(sha256(data), len(data), keep or set())
    part.append(data[part.written :])
    return part.commit()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "models", 10 * MIB)


def test_a_file_is_found_by_its_content(cache: Cache) -> None:
    assert cache.find(sha256(b"model")) is None
    path = store(cache, b"model")
    assert path.read_bytes() == b"model"
    assert cache.find(sha256(b"model")) == path
    assert cache.used_bytes() == 5


def test_an_empty_file_is_a_file(cache: Cache) -> None:
    assert store(cache, b"").read_bytes() == b""


def test_wrong_bytes_are_deleted_and_counted(cache: Cache) -> None:
    part = cache.begin(sha256(b"right"), 5, ())
    part.append(b"wrong")
    with pytest.raises(InvalidInput) as caught:
        part.commit()
    assert caught.value.code == "wrong_digest"
    assert "deleted" in caught.value.message
    assert caught.value.fix
    assert cache.counters["wrong_digest"] == 1
    assert list(cache.folder.iterdir()) == []


def test_more_bytes_than_declared_are_refused(cache: Cache) -> None:
    part = cache.begin(sha256(b"abc"), 3, ())
    with pytest.raises(InvalidInput):
        part.append(b"abcd")
    part.discard()


def test_a_part_is_resumed_and_verified_from_its_first_byte(cache: Cache) -> None:
    data = os.urandom(3 * MIB + 7)
    part = cache.begin(sha256(data), len(data), ())
    part.append(data[: 2 * MIB])
    part.abandon()
    again = Cache(cache.folder, cache.quota_bytes).begin(sha256(data), len(data), ())
    assert again.written == 2 * MIB
    again.append(data[2 * MIB :])
    assert again.commit().read_bytes() == data


def test_a_part_that_was_damaged_on_disk_is_caught(cache: Cache) -> None:
    data = os.urandom(1000)
    part = cache.begin(sha256(data), len(data), ())
    part.append(data[:500])
    part.abandon()
    (path,) = cache.folder.iterdir()
    path.write_bytes(b"\0" * 500)
    again = cache.begin(sha256(data), len(data), ())
    again.append(data[500:])
    with pytest.raises(InvalidInput):
        again.commit()


def test_a_part_longer_than_the_file_starts_anew(cache: Cache) -> None:
    (cache.folder / f"{sha256(b'abc')}.part").write_bytes(b"far too long")
    part = cache.begin(sha256(b"abc"), 3, ())
    assert part.written == 0
    part.append(b"abc")
    assert part.commit().read_bytes() == b"abc"


def test_the_least_recently_used_file_makes_room(cache: Cache) -> None:
    files = [bytes([number]) * (3 * MIB) for number in range(4)]
    paths = [store(cache, data) for data in files[:3]]
    for age, path in zip((30, 20, 10), paths, strict=True):
        os.utime(path, (1000 - age, 1000 - age))
    assert cache.find(sha256(files[0])) == paths[0]  # just used
    store(cache, files[3])
    assert [path.exists() for path in paths] == [True, False, True]
    assert cache.counters["evicted"] == 1
    assert cache.used_bytes() <= cache.quota_bytes


def test_files_in_use_stay_and_the_newcomer_is_refused_with_what_to_do(cache: Cache) -> None:
    first, second = b"1" * (6 * MIB), b"2" * (6 * MIB)
    path = store(cache, first)
    with pytest.raises(Overloaded) as caught:
        store(cache, second, keep={sha256(first)})
    assert caught.value.code == "cache_full"
    assert "cache_quota_bytes" in caught.value.fix
    assert path.exists()


def test_files_being_written_count_in_full(cache: Cache) -> None:
    part = cache.begin(sha256(b"1"), 8 * MIB, ())
    with pytest.raises(Overloaded):
        cache.begin(sha256(b"2"), 8 * MIB, ())
    part.discard()
    cache.begin(sha256(b"2"), 8 * MIB, ()).discard()


def test_a_file_larger_than_the_free_disk_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "models", 1 << 60)
    with pytest.raises(Unavailable) as caught:
        cache.begin(sha256(b"huge"), 1 << 59, ())
    assert caught.value.code == "disk_full"
    assert "Free at least" in caught.value.fix


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_disk_that_fills_up_says_what_to_do(cache: Cache) -> None:
    (cache.folder / f"{sha256(b'abc')}.part").symlink_to("/dev/full")
    part = cache.begin(sha256(b"abc"), 3, ())
    with pytest.raises(Unavailable) as caught:
        part.append(b"abc")
    assert caught.value.code == "disk_full"
    assert str(cache.folder) in caught.value.message
    assert "Free space" in caught.value.fix
    part.abandon()


def test_a_name_that_is_no_digest_is_refused(cache: Cache) -> None:
    with pytest.raises(InvalidInput):
        cache.find("../../etc/passwd")
