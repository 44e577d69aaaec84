"""Who leads a cell: one entry that controllers write by compare-and-set, and everybody may read.

The entry alone excludes nobody (a reader may see it late): every order carries the ``epoch``, and
whoever receives an order refuses an older one.
"""

from __future__ import annotations

import msgspec

LEADERSHIP_KEY = "controller"
"""The entry's key in the table ``leadership``."""


class Leadership(msgspec.Struct, frozen=True, kw_only=True):
    """The leader's address (its process: ``address/boot``), its epoch, and a count of its beats.

    ``epoch`` grows by one with every new leader. Only that ``beat`` changes says the leader lives;
    readers judge its age by their own clocks.
    """

    leader: str
    epoch: int
    beat: int
