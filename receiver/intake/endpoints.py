"""The sources as intake uses them: by id, with verifier, provider and tenant at hand, and kept up to date.

A source that was added, changed or disabled by another process takes effect within a second; one that is asked for
and not known is looked for at once.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import Counter as PrometheusCounter

from receiver import providers
from receiver.intake.signatures import Scheme, Secret, Verifier, check_secret, scheme_from_options, verifier
from receiver.metrics import Metrics
from receiver.providers import Provider
from receiver.records.opening import Records, Tenant
from receiver.records.probes import MAX_HELD, load_probes
from receiver.records.sources import Source, load_sources, sources_version

_log = logging.getLogger(__name__)

LOOK_AGAIN_AFTER = 0.1  # seconds between two looks for ids that nobody knows


@dataclass(slots=True)
class Probe:
    """A probe of a source that is on; `left` is how many more refused deliveries this process takes to hold."""

    until: datetime
    left: int = MAX_HELD

    def takes(self, received_at: float) -> bool:
        """Whether a delivery that was refused now (Unix seconds) is to be held. Each that is counts, held or not."""
        if self.left <= 0 or received_at >= self.until.timestamp():
            return False
        self.left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One source, ready to take deliveries; `counts` is what became of them in this process."""

    source: Source
    tenant: Tenant
    provider: Provider
    verifier: Verifier
    counts: Counter[str]
    metrics: Metrics
    probe: Probe | None = None
    counters: dict[str, PrometheusCounter] = field(default_factory=dict[str, PrometheusCounter])

    def count(self, status: str) -> None:
        """Count a delivery by what became of it: a status of an answer, or `refused:` and the reason."""
        self.counts[status] += 1
        counter = self.counters.get(status)
        if counter is None:  # a label is looked up once, not for every delivery
            counter = self.counters[status] = self.metrics.deliveries.labels(self.provider.name, status)
        counter.inc()


class Endpoints:
    """All of them, by source id. Used on the loop; the database is read in threads."""

    def __init__(self, records: Records, metrics: Metrics) -> None:
        self._records = records
        self._metrics = metrics
        self._by_id: dict[str, Endpoint] = {}
        self._version = b""
        self._probes: dict[str, datetime] = {}
        self._loading = asyncio.Lock()
        self._looked_at = 0.0
        self._heard: dict[str, float] = {}

    async def get(self, source_id: str) -> Endpoint | None:
        """The endpoint of that id, or None if there is no such source or it is disabled."""
        endpoint = self._by_id.get(source_id)
        if endpoint is None:
            now = asyncio.get_running_loop().time()
            if now - self._looked_at >= LOOK_AGAIN_AFTER:
                self._looked_at = now
                await self.refresh()
            else:
                async with self._loading:  # whoever looks now looks for all that ask
                    pass
        return self.present(source_id)

    def present(self, source_id: str) -> Endpoint | None:
        """The same as far as it is known now, without looking for it."""
        endpoint = self._by_id.get(source_id)
        return endpoint if endpoint is not None and endpoint.source.enabled else None

    async def refresh(self) -> None:
        """Take over what has changed."""
        async with self._loading:
            changed = await asyncio.to_thread(self._load)
            if changed is not None:
                self._by_id = self._endpoints(changed)

    def all(self) -> Sequence[Endpoint]:
        """Every endpoint, the disabled ones too: they are tallied."""
        return list(self._by_id.values())

    def hear(self, source_id: str, at: float) -> None:
        """Remember that a source delivered something authenticated at that time (Unix seconds)."""
        self._heard[source_id] = at

    def take_heard(self) -> dict[str, float]:
        """When each source was heard of last, of those that were since this was asked; for `put_heard` if need be."""
        taken, self._heard = self._heard, {}
        return taken

    def put_heard(self, taken: dict[str, float]) -> None:
        """Take back what could not be noted."""
        self._heard = taken | self._heard

    def _load(self) -> list[Source] | None:
        version, probes = sources_version(self._records), load_probes(self._records)
        if version == self._version and probes == self._probes:
            return None
        self._records.reload()
        sources = load_sources(self._records)
        self._version, self._probes = version, probes
        return sources

    def _endpoints(self, sources: Sequence[Source]) -> dict[str, Endpoint]:
        endpoints: dict[str, Endpoint] = {}
        for source in sources:
            try:
                endpoint = self._endpoint(source)
            except ValueError as error:
                # A provider this version does not know, say. The others must go on.
                _log.error("source %s (%s) cannot take deliveries: %s", source.name, source.id, error)
                continue
            endpoints[source.id] = endpoint
        return endpoints

    def _endpoint(self, source: Source) -> Endpoint:
        scheme = scheme_from_options(source.scheme, source.scheme_options)
        secrets = [
            Secret(one.id, one.value, one.not_before, one.not_after)
            for one in source.secrets
            if one.not_after is None or _fits(scheme, one.value)
        ]
        known = self._by_id.get(source.id)
        return Endpoint(
            source=source,
            tenant=self._records.tenant(source.tenant),
            provider=providers.get(source.provider),
            verifier=verifier(scheme, secrets, source.replay_window),
            counts=Counter() if known is None else known.counts,
            metrics=self._metrics,
            probe=self._probe(source.id, None if known is None else known.probe),
        )

    def _probe(self, source_id: str, known: Probe | None) -> Probe | None:
        until = self._probes.get(source_id)
        if until is None:
            return None
        return known if known is not None and known.until == until else Probe(until)


def _fits(scheme: Scheme, secret: str) -> bool:
    """Whether a secret that has an end can still be used: a change of scheme that it did not fit has ended it.

    That it has is not asked of the clock, which may stand behind that of the machine where the scheme was changed.
    """
    try:
        check_secret(scheme, secret)
    except ValueError:
        return False
    return True
