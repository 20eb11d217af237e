"""What Prometheus is told. Labels are resolved once for each source, so that counting costs nothing to speak of."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """One registry for each application, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "rescind_deliveries",
            "Deliveries by what became of them.",
            ("provider", "status"),
            registry=self.registry,
        )
        self.unknown_sources = Counter(
            "rescind_unknown_source",
            "Deliveries to a source that does not exist or is disabled.",
            registry=self.registry,
        )
        self.unavailable = Counter(
            "rescind_unavailable", "Deliveries answered 503: nothing was kept.", registry=self.registry
        )
        self.relayed = Counter(
            "rescind_relayed",
            "Calls passed on, by what is recorded of them.",
            ("provider", "outcome"),
            registry=self.registry,
        )
        self.pending_answers = Gauge(
            "rescind_relay_pending", "Answers to calls that could not be recorded yet.", registry=self.registry
        )
        self.record_asks = Counter(
            "rescind_record_asks",
            "Events about which a provider's own record was asked, by what came of it.",
            ("provider", "outcome"),
            registry=self.registry,
        )
        self.proof_bundles = Counter(
            "rescind_proof_bundles",
            "Proof bundles that a provider was asked for, by what came of it.",
            ("provider", "result"),
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "rescind_batch_size",
            "Deliveries written in one transaction.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=self.registry,
        )
        self.waiting = Gauge("rescind_waiting", "Deliveries waiting to be recorded.", registry=self.registry)
        self.recording = Gauge(
            "rescind_recording", "1 while deliveries can be recorded, 0 once that was stopped.", registry=self.registry
        )
        self.log_size = Gauge("rescind_log_size", "Entries of a tenant's log.", ("tenant",), registry=self.registry)
        self.published_size = Gauge(
            "rescind_log_published_size",
            "Entries that the newest checkpoint covers.",
            ("tenant",),
            registry=self.registry,
        )
        self.publish_failures = Counter(
            "rescind_publish_failures", "Checkpoints that could not be signed.", ("tenant",), registry=self.registry
        )

        self.messages = Counter(
            "rescind_messages",
            "Messages to subscriptions, by what became of each try: taken, not_taken, given_up.",
            ("outcome",),
            registry=self.registry,
        )
        self.messages_waiting = Gauge(
            "rescind_messages_waiting", "Messages to subscriptions that wait to be taken.", registry=self.registry
        )

    def render(self) -> bytes:
        """The exposition, as Prometheus reads it."""
        return generate_latest(self.registry)
