"""Counters of one process, labelled by route template: no channel or package name ever becomes a label."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)
# Any other is counted as one: a label that strangers choose would grow without end.
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Requests(Collector):
    """Requests by route, method and status, and their times by route. Written by the event loop alone, so without the
    locks of the library's own counters, which cost as much as answering a small file.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._times: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def seen(self, route: str, method: str, status: int, seconds: float) -> None:
        place = (route, method if method in METHODS else "other", status)
        counts = self._counts
        counts[place] = counts.get(place, 0) + 1
        times = self._times.get(route)
        if times is None:
            times = self._times[route] = [0] * (len(BUCKETS) + 1)
            self._sums[route] = 0.0
        times[bisect_left(BUCKETS, seconds)] += 1
        self._sums[route] += seconds

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("fairway_requests", "Requests answered", labels=("route", "method", "status"))
        for (route, method, status), count in sorted(self._counts.copy().items()):
            requests.add_metric((route, method, str(status)), count)
        yield requests
        seconds = HistogramMetricFamily("fairway_request_seconds", "Time to answer", labels=("route",))
        for route, times in sorted(self._times.copy().items()):
            below, buckets = 0, []
            for edge, count in zip((*BUCKETS, float("inf")), times, strict=True):
                below += count
                buckets.append(("+Inf" if edge == float("inf") else str(float(edge)), float(below)))
            seconds.add_metric((route,), buckets, self._sums[route])
        yield seconds


class Upstreams(Collector):
    """How old the index of each channel's upstream is. The label is the channel's number: its name is nobody's business
    who may not read it.
    """

    def __init__(self) -> None:
        self.seen: Sequence[tuple[int, float, int]] = ()  # number, seconds, failures; a scrape replaces it whole

    def collect(self) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            "fairway_upstream_age_seconds", "Since the upstream was as it is served", labels=("channel",)
        )
        failures = GaugeMetricFamily(
            "fairway_upstream_failures", "Looks at the upstream that failed in a row", labels=("channel",)
        )
        for channel, seconds, count in self.seen:
            age.add_metric((str(channel),), seconds)
            failures.add_metric((str(channel),), count)
        yield age
        yield failures


class Metrics:
    """What /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Requests()
        self.registry.register(self.requests)
        self.upstreams = Upstreams()
        self.registry.register(self.upstreams)
        self.uploads = Counter(
            "fairway_uploads",
            "Uploads and other requests to change files, by outcome or code",
            ("outcome",),
            registry=self.registry,
        )
        self.behind = Gauge("fairway_index_behind", "Subdirs whose index is not up to date", registry=self.registry)
