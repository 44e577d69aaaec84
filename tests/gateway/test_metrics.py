"""The exposition format, as a scraper reads it."""

from __future__ import annotations

from isochrone.gateway.metrics import Registry

from .http_calls import call
from .town import Town, http_port


def test_counters_gauges_and_histograms() -> None:
    registry = Registry()
    requests = registry.counter("requests_total", "Requests.", ("service", "code"))
    plain = registry.counter("plain_total", "Plain.")
    latency = registry.histogram("latency_ms", "Latency.")
    registry.gauge("up", "Up.", lambda: [((), 1.5)])
    requests.add(("a", "200"))
    requests.add(("a", "200"), 2)
    requests.add(('q"uo\nte\\', "500"))
    latency.observe(0.5)
    latency.observe(7)
    latency.observe(1e9)
    lines = registry.text().decode().splitlines()
    assert 'requests_total{service="a",code="200"} 3' in lines
    assert r'requests_total{service="q\"uo\nte\\",code="500"} 1' in lines
    assert "plain_total 0" in lines
    assert plain.total() == 0
    assert "up 1.5" in lines
    assert 'latency_ms_bucket{le="0.5"} 1' in lines
    assert 'latency_ms_bucket{le="10"} 2' in lines
    assert 'latency_ms_bucket{le="30000"} 2' in lines
    assert 'latency_ms_bucket{le="+Inf"} 3' in lines
    assert "latency_ms_count 3" in lines
    assert lines.count("# TYPE latency_ms histogram") == 1


async def test_what_a_gateway_tells(town: Town) -> None:
    gateway = await town.gateway()
    node = await town.node(at=gateway)
    await town.route(town.service("speech", [(node, "l1")]))
    port, key = http_port(gateway), town.api_key("speech")
    await call(port, "POST", "/v2/models/speech/infer", b"{}", key)
    await call(port, "POST", "/v2/models/speech/infer", b"{}")
    text = (await call(port, "GET", "/metrics")).body.decode()
    service = f"{town.tenant.address}.speech"
    for line in (
        f'isochrone_requests_total{{service="{service}",code="200"}} 1',
        'isochrone_refused_total{code="unauthorized"} 1',
        f'isochrone_request_ms_count{{service="{service}"}} 1',
        "isochrone_overhead_ms_count 1",
        "isochrone_in_flight 0",
        "isochrone_nodes 1",
        "isochrone_fabric_connected 1",
        'isochrone_greetings_total{code="welcome"} 1',
        'isochrone_route_tables_total{fate="taken"} 1',
    ):
        assert line in text.splitlines(), line
