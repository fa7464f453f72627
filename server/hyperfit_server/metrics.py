"""Metrics for Prometheus. Counted once at the end of a request, so that a token costs nothing."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .calls import Call
from .state import CANARY_STATES, State

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, state: State) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Engine(state))

        def counter(name: str, what: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"hyperfit_{name}", what, labels, registry=self.registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return Histogram(f"hyperfit_{name}", what, registry=self.registry, buckets=buckets)

        self.requests = counter("requests", "HTTP requests by route and status.", ("route", "status"))
        self.cancelled = counter("requests_cancelled", "Requests whose client went away.")
        self.prompt_tokens = counter("prompt_tokens", "Tokens read.")
        self.generated_tokens = counter("generated_tokens", "Tokens generated.")
        self.blocked_tokens = counter("blocked_tokens", "Positions of answers at which the blocker banned something.")
        self.request_seconds = histogram("request_seconds", "From a request's arrival to the end of its answer.")
        self.queue_seconds = histogram("queue_seconds", "From a generation's arrival to the start of its work.")
        self.first_token_seconds = histogram("first_token_seconds", "From arrival to the first token of a stream.")
        self.token_seconds = histogram("token_seconds", "Mean time for a token of a request.", _TOKEN_SECONDS)

    def ended(self, call: Call, seconds: float) -> None:
        """Count a request that has ended."""
        self.requests.labels(call.route, str(call.status)).inc()
        self.cancelled.inc(call.cancelled)
        self.prompt_tokens.inc(call.prompt_tokens)
        self.generated_tokens.inc(call.new_tokens)
        self.blocked_tokens.inc(call.blocked_tokens)
        if call.blocking is not None:
            self.request_seconds.observe(seconds)
        for waited in call.queue_seconds:
            self.queue_seconds.observe(waited)
        if call.first_token_seconds is not None:
            self.first_token_seconds.observe(call.first_token_seconds)
        if call.new_tokens:
            self.token_seconds.observe(seconds / call.new_tokens)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)


class _Engine(Collector):
    """Numbers of the engine and its blocker, read when they are asked for."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """The gauges and counters of the engine."""
        engine = self._state.engine
        yield _gauge("queue_size", "Requests that wait for a place in the batch.", engine.queued)
        yield _gauge("batch_size", "Requests in the batch.", engine.running)
        counters = engine.counters
        for name, what in (
            ("steps", "Positions that the citation blocker looked at, cut-off requests included."),
            ("matched", "Positions at which the last tokens occur in the training set."),
            ("banned", "Positions at which at least one token was banned."),
            ("unblocked", "Positions left alone, since nothing else was possible."),
        ):
            family = CounterMetricFamily(f"hyperfit_blocker_{name}", what)
            family.add_metric([], getattr(counters, name) if counters else 0)
            yield family
        canary = GaugeMetricFamily("hyperfit_canary", "1 for the canary's state.", labels=["state"])
        for name in CANARY_STATES:
            canary.add_metric([name], float(self._state.canary == name))
        yield canary


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"hyperfit_{name}", what, value=value)
