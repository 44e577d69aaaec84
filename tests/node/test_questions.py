"""Who may ask a node what."""

from __future__ import annotations

from isochrone.node.questions import Questions
from isochrone.schema.frames import Control, Orders
from isochrone.schema.probing import ProbeEnd
from isochrone.schema.work import WorkOpen


def test_each_role_has_its_own_rights_and_the_rest_is_counted() -> None:
    questions, heard = Questions(), list[tuple[str, Control]]()

    def take(asker: str, message: Control, say: object) -> None:
        heard.append((asker, message))

    questions.on(ProbeEnd, take, of=("gateway", "watcher"))
    questions.on(WorkOpen, take, of=("watcher",))
    end, work = ProbeEnd(burst=b""), WorkOpen(work=b"", rows=())
    orders = Orders(cell="fra", epoch=9, leases=())
    assert questions.put("gateway", "g", end, print)
    assert questions.put("watcher", "w", end, print)
    assert questions.put("watcher", "w", work, print)
    assert not questions.put("gateway", "g", work, print)
    assert not questions.put("watcher", "w", orders, print)
    assert heard == [("g", end), ("w", end), ("w", work)]
    assert questions.counters == {"gateway:WorkOpen": 1, "watcher:Orders": 1}
