"""The spool against a dictionary: through crashes, torn tails, restarts and failing disks."""

from __future__ import annotations

import asyncio
import resource
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from isochrone.records import spool_files
from isochrone.records.segments import SEAL, frame
from isochrone.records.spool import Spool
from isochrone.schema.errors import Unavailable

epochs = st.integers(0, 6)
records = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4)


class Life(RuleBasedStateMachine):
    """What was acknowledged and not dropped is there, in order; nothing else is."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(spool_files, "SEGMENT_BYTES", 120)
        self.folder = tempfile.TemporaryDirectory()
        self.lives = 0
        self.kept: dict[int, list[bytes]] = {}
        self.spool = Spool.open(self.place)

    @property
    def place(self) -> Path:
        return Path(self.folder.name) / str(self.lives)

    @rule(epoch=epochs, content=records)
    def append(self, epoch: int, content: list[bytes]) -> None:
        asyncio.run(self.spool.append(epoch, content))
        self.kept.setdefault(epoch, []).extend(content)

    @rule(epoch=epochs)
    def fail(self, epoch: int) -> None:
        """The disk takes no more bytes in any file; nothing is acknowledged."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
        try:
            with pytest.raises(Unavailable):
                asyncio.run(self.spool.append(epoch, [b"never" * 100]))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @rule(epoch=epochs)
    def drop(self, epoch: int) -> None:
        asyncio.run(self.spool.drop(epoch))
        self.kept.pop(epoch, None)

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = Spool.open(self.place)
        assert self.spool.damages == ()

    @rule(data=st.data(), content=st.binary(min_size=1, max_size=40))
    def crash(self, data: st.DataObject, content: bytes) -> None:
        """The process dies in the middle of a write; what it had on disk is what is found."""
        before = self.place
        self.lives += 1
        shutil.copytree(before, self.place)
        self.spool.close()
        torn = frame(content)[: data.draw(st.integers(1, len(content) + 11))]
        segments = sorted(self.place.glob("*.spool"))
        unsealed = [path for path in segments if not path.read_bytes().endswith(SEAL)]
        cut = bool(unsealed) and data.draw(st.booleans())
        if cut:
            path = data.draw(st.sampled_from(unsealed))
            path.write_bytes(path.read_bytes() + torn)
        self.spool = Spool.open(self.place)
        assert len(self.spool.damages) == cut

    @invariant()
    def all_is_there(self) -> None:
        found = {epoch: list(self.spool.read(epoch)) for epoch in self.spool.epochs()}
        assert {epoch: read for epoch, read in found.items() if read} == self.kept

    def teardown(self) -> None:
        self.spool.close()
        self.folder.cleanup()
        self.patch.undo()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=50, stateful_step_count=20)
