"""Routing candidates for the tests."""

from hypothesis import strategies as st

from isochrone.rules.routing import RouteCandidate

numbers = st.floats(0.0, 500.0, allow_nan=False)


@st.composite
def route_candidates(draw: st.DrawFn) -> list[RouteCandidate]:
    """Up to eight replicas on up to five nodes of up to three providers."""
    rows = []
    for index in range(draw(st.integers(0, 8))):
        node = draw(st.integers(0, 4))
        rows.append(
            RouteCandidate(
                lease=f"lease-{index}",
                node=f"node-{node}",
                provider=f"provider-{node % 3}",
                legal=draw(st.booleans()),
                rtt_ms=draw(numbers),
                in_flight=draw(st.integers(0, 20)),
                concurrency=draw(st.integers(0, 4)),
                service_ms=draw(numbers),
                deviation_ms=draw(numbers),
                suspect=draw(st.booleans()),
            )
        )
    return rows


def candidate(name: str, provider: str = "alder", **fields: float | bool) -> RouteCandidate:
    """A replica on a node of its own: 10 ms away, idle, 5 ms of service."""
    known: dict[str, float | bool] = {
        "legal": True, "rtt_ms": 10.0, "in_flight": 0, "concurrency": 1, "service_ms": 5.0,
    }  # fmt: skip
    return RouteCandidate(lease=name, node=name, provider=provider, **(known | fields))  # type: ignore[arg-type]
