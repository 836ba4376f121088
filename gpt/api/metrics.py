"""Metrics: what Prometheus reads of the interface."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("gpt_requests", "requests answered", ["route", "status"], registry=self._registry)
        self.tokens = Counter("gpt_generated_tokens", "tokens generated", registry=self._registry)
        self.prompt_tokens = Counter("gpt_prompt_tokens", "tokens of prompts", registry=self._registry)
        self.first_token_s = Histogram(
            "gpt_time_to_first_token_seconds",
            "from a request's arrival to its first token",
            buckets=BUCKETS_S,
            registry=self._registry,
        )
        self.running = Gauge("gpt_requests_running", "requests that are being worked on", registry=self._registry)
        self.waiting = Gauge("gpt_requests_waiting", "requests that wait for their turn", registry=self._registry)

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self._registry)
