"""Counters, gauges and histograms in Prometheus' text format, without a dependency.

Counting is a dictionary increment on the event loop's thread; nothing is computed before a scrape.
Label values are names that the gateway chose or checked (service ids, codes), never raw input: the
number of series stays bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

LATENCY_BUCKETS_MS: Final = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2500, 5000, 30000)
"""Upper bounds in milliseconds: fine where objectives lie (2-500), coarse beyond."""

Labels = tuple[str, ...]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _series(name: str, labels: Labels, values: Labels, extra: str = "") -> str:
    pairs = [f'{label}="{_escape(value)}"' for label, value in zip(labels, values, strict=True)]
    if extra:
        pairs.append(extra)
    return f"{name}{{{','.join(pairs)}}}" if pairs else name


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


class Counter:
    """A sum that only grows, per combination of label values."""

    def __init__(self, name: str, about: str, labels: Labels = ()) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, values: Labels = (), amount: float = 1) -> None:
        """Count ``amount`` more."""
        self.values[values] = self.values.get(values, 0) + amount

    def total(self) -> float:
        """The sum over all labels."""
        return sum(self.values.values())

    def lines(self) -> Iterable[str]:
        """The exposition of this metric."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} counter"
        for values, count in self.values.items():
            yield f"{_series(self.name, self.labels, values)} {_number(count)}"


class Gauge:
    """Values read at scrape time: ``read`` gives (label values, value) pairs."""

    def __init__(
        self,
        name: str,
        about: str,
        read: Callable[[], Iterable[tuple[Labels, float]]],
        labels: Labels = (),
        kind: str = "gauge",
    ) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self.kind = kind
        self._read = read

    def lines(self) -> Iterable[str]:
        """The exposition of this metric."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} {self.kind}"
        for values, value in self._read():
            yield f"{_series(self.name, self.labels, values)} {_number(value)}"


class Histogram:
    """How often values fell under each bound, per combination of label values."""

    def __init__(
        self,
        name: str,
        about: str,
        labels: Labels = (),
        bounds: tuple[float, ...] = LATENCY_BUCKETS_MS,
    ) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self.bounds = bounds
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def observe(self, value: float, values: Labels = ()) -> None:
        """Count one value."""
        counts = self._counts.get(values)
        if counts is None:
            counts = self._counts[values] = [0] * (len(self.bounds) + 1)
            self._sums[values] = 0.0
        counts[bisect_left(self.bounds, value)] += 1
        self._sums[values] += value

    def lines(self) -> Iterable[str]:
        """The exposition of this metric."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} histogram"
        for values, counts in self._counts.items():
            running = 0
            for bound, count in zip((*self.bounds, float("inf")), counts, strict=True):
                running += count
                shown = "+Inf" if bound == float("inf") else _number(bound)
                extra = f'le="{shown}"'
                yield f"{_series(self.name + '_bucket', self.labels, values, extra)} {running}"
            yield f"{_series(self.name + '_sum', self.labels, values)} {self._sums[values]!r}"
            yield f"{_series(self.name + '_count', self.labels, values)} {running}"


class Registry:
    """All metrics of a process, in the order they were made."""

    def __init__(self) -> None:
        self._metrics: list[Counter | Gauge | Histogram] = []

    def counter(self, name: str, about: str, labels: Labels = ()) -> Counter:
        """A new counter."""
        metric = Counter(name, about, labels)
        self._metrics.append(metric)
        return metric

    def histogram(self, name: str, about: str, labels: Labels = ()) -> Histogram:
        """A new histogram of milliseconds."""
        metric = Histogram(name, about, labels)
        self._metrics.append(metric)
        return metric

    def gauge(
        self,
        name: str,
        about: str,
        read: Callable[[], Iterable[tuple[Labels, float]]],
        labels: Labels = (),
        kind: str = "gauge",
    ) -> Gauge:
        """A new gauge (or, with ``kind`` counter, somebody else's count read at scrape time)."""
        metric = Gauge(name, about, read, labels, kind)
        self._metrics.append(metric)
        return metric

    def text(self) -> bytes:
        """The whole exposition, version 0.0.4."""
        return (
            "\n".join(line for metric in self._metrics for line in metric.lines()) + "\n"
        ).encode()
