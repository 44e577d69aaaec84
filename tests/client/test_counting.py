"""A tenant's own count: what is signed, what is reported, and that it disturbs nobody."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isochrone.client.counting import CHAINS_MAX, AnswerCounts, Counting, Discrepancy
from isochrone.schema.admin import COUNT_HEADER, TenantCounts, TenantCountsTaken
from isochrone.schema.deployment import Deployment
from isochrone.schema.identity import PrivateKey, recover
from isochrone.schema.settling import LedgerView
from isochrone.schema.typed_data import tenant_count

CHAIN = "ab" * 32
DEPLOYMENT = Deployment(chain_id=5, bonds="0x" + "b0" * 20)
KEY = PrivateKey(b"\5" * 32)


def header(number: int, chain: str = CHAIN) -> str:
    return f"{chain}:{number}"


def test_its_own_number_is_due_until_it_is_posted() -> None:
    counts = AnswerCounts()
    for number in (1, 2, 3):
        counts.saw(header(number))
    assert counts.due() == [(CHAIN, 3)]
    counts.posted([(CHAIN, 3)])
    assert counts.due() == []
    counts.saw(header(4))
    assert counts.due() == [(CHAIN, 4)]
    assert counts.discrepancies == []


def test_a_number_above_its_own_is_reported_once_and_never_signed() -> None:
    counts = AnswerCounts()
    counts.saw(header(1))
    counts.saw(header(7))
    assert counts.due() == [(CHAIN, 2)]
    counts.saw(header(9))
    assert counts.due() == [(CHAIN, 3)]
    assert counts.discrepancies == [Discrepancy(chain=CHAIN, told=7, counted=2)]
    several = AnswerCounts(sole=False)
    several.saw(header(7))
    assert several.due() == [(CHAIN, 1)]
    assert several.discrepancies == []


@pytest.mark.parametrize("text", ["", "nonsense", f"{CHAIN}:", f"{CHAIN}:x", "ab:1", f"{CHAIN}:²"])
def test_headers_that_say_nothing_are_let_be(text: str) -> None:
    counts = AnswerCounts()
    counts.saw(text)
    assert counts.due() == []


def test_chains_are_bounded() -> None:
    counts = AnswerCounts()
    for number in range(CHAINS_MAX + 5):
        counts.saw(header(1, f"{number:064x}"))
    assert len(counts.due()) == CHAINS_MAX


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=60))
def test_no_more_is_signed_than_was_had_or_told_prop(events: list[tuple[int, int]]) -> None:
    counts = AnswerCounts()
    had, told = [0, 0, 0], [0, 0, 0]
    for which, beyond in events:
        had[which] += 1
        told[which] = max(told[which], had[which] + beyond - 1)
        counts.saw(header(max(0, had[which] + beyond - 1), f"{which:064x}"))
        for chain, count in counts.due():
            number = int(chain, 16)
            assert count <= had[number]
            assert count <= told[number]


class Gateway(http.server.BaseHTTPRequestHandler):
    """The two paths of a gateway that are needed; it keeps what is posted."""

    posted: list[TenantCounts] = []
    down = False

    def do_GET(self) -> None:
        self._answer(msgspec.json.encode(LedgerView(deployment=DEPLOYMENT)))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if Gateway.down:
            self.send_error(503)
            return
        counts = msgspec.json.decode(body, type=TenantCounts)
        Gateway.posted.append(counts)
        taken = TenantCountsTaken(kept=len(counts.counts), passed_on=0)
        self._answer(msgspec.json.encode(taken))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing on the test's output."""


@pytest.fixture
def url() -> Iterator[str]:
    Gateway.posted, Gateway.down = [], False
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def answered(number: int) -> SimpleNamespace:
    return SimpleNamespace(headers={COUNT_HEADER: header(number)})


def test_counts_are_signed_and_posted_at_the_latest_at_the_end(url: str) -> None:
    with Counting(url, KEY, post_s=60) as counting:
        counting.on_response(answered(1))
        assert counting.post() == 1
        counting.on_response(answered(2))
        counting.saw({})  # an answer of a gateway that does not count
    counts = [count for posted in Gateway.posted for count in posted.counts]
    assert [count.requests for count in counts] == [1, 2]
    for count in counts:
        digest = tenant_count(DEPLOYMENT.domain, bytes.fromhex(count.chain), count.requests)
        assert recover(digest, bytes.fromhex(count.signature)) == KEY.address


async def test_the_hook_for_asynchronous_clients(url: str) -> None:
    with Counting(url, KEY, post_s=60) as counting:
        await counting.on_response_async(answered(1))
        assert counting.post() == 1


def test_a_gateway_that_is_down_gets_them_later(url: str) -> None:
    told: list[Discrepancy] = []
    with Counting(url, KEY, post_s=60, on_discrepancy=told.append) as counting:
        counting.saw({COUNT_HEADER: header(5)})
        Gateway.down = True
        with pytest.raises(Exception, match="503"):
            counting.post()
        Gateway.down = False
        assert counting.post() == 1
        assert counting.discrepancies == tuple(told)
        assert told == [Discrepancy(chain=CHAIN, told=5, counted=1)]
    assert counting.last_error is None
