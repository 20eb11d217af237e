"""Operators who have things taken back at the sandbox, through the relay and directly, whoever is killed meanwhile.

    calls = planned(rng, Things.made(sandbox_url, 500))
    callers = Callers(calls, sandbox_url, [relay_url], key)
    callers.start()
    …
    told = callers.finished()

A caller is a sensible one. A call of which nothing was sent is made again. So is one that was broken off, or whose
outcome the relay does not know, under the same idempotency key; one without such a key is left, for to make it again
could take back twice.
"""

import itertools
import json
import random
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, TypeAlias

import httpx2

from receiver.sandbox import capillary, thanx, voucherify
from tests.receiver.relays import CREDENTIALS

AT_ONCE = 8
PAUSE = 0.2  # seconds until a call is made again
PATIENCE = 60.0  # seconds until a call must have come through

RAW = "550e8400-e29b-41d4-a716-446655440001"
UNITS = "550e8400-e29b-41d4-a716-446655440011"
LOTS = "550e8400-e29b-41d4-a716-446655440012"
OF_AMOUNT = "550e8400-e29b-41d4-a716-446655440013"
REDEMPTIONS = (RAW, UNITS, LOTS, OF_AMOUNT)
BADGES = tuple(capillary.EARNED)
"""One is revoked through the relay, the other directly; so are the two buckets canceled."""

About: TypeAlias = tuple[str, str | None]
"""What a call is about: the item's id, and the reason, which tells the reversals of one redemption apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a documented operation."""

    provider: str
    path: str
    item: str
    members: Mapping[str, Any]
    """Of the JSON that is sent."""
    relayed: bool
    key: str | None = None
    """The caller's own idempotency key."""

    @property
    def about(self) -> About:
        return self.item, self.members.get("reason")

    def request(self) -> tuple[dict[str, str], bytes]:
        """The headers and the body as the provider documents them."""
        headers = {"content-type": "application/json", **CREDENTIALS[self.provider]}
        members = dict(self.members)
        if self.key is not None and self.provider == "truthlocks":
            headers["idempotency-key"] = self.key
        elif self.key is not None:
            members["idempotency_key"] = self.key
        return headers, json.dumps(members).encode()


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that a caller got."""

    call: Call
    status: int
    headers: httpx2.Headers
    body: Any

    @property
    def is_final(self) -> bool:
        """It is what the provider said. What the relay itself says of its failures is 502, 503 or 504."""
        return self.status < 500 or not self.call.relayed

    @property
    def is_unknown(self) -> bool:
        """The relay does not know what became of the call."""
        return self.headers.get("x-rescind-recorded") == "unknown"


@dataclass(frozen=True, slots=True)
class Things:
    """What there is to take back besides the fixtures: receipts just minted, and jobs just begun."""

    receipts: Sequence[str]
    jobs: Sequence[str]

    @classmethod
    def made(cls, url: str, number: int) -> "Things":
        """As many as it takes for that number of calls, at the sandbox of that URL."""
        limits = httpx2.Limits(max_connections=AT_ONCE)
        with httpx2.Client(base_url=url, timeout=PATIENCE, trust_env=False, limits=limits) as client:

            def made(provider: str, path: str, members: Mapping[str, Any]) -> Any:
                key = {"idempotency-key": str(uuid.uuid4())}
                answer = client.post(path, json=members, headers={**CREDENTIALS[provider], **key})
                assert answer.is_success, answer.text
                return answer.json()

            def mint(_: int) -> str:
                members = {"receipt_type": "payment_receipt", "issuer_id": "issuer", "kid": "key", "subject": "subject"}
                return made("truthlocks", "/v1/receipts", {**members, "payload": {}})["receipt_id"]

            def issue(_: int) -> str:
                whom = [{"type": "email", "value": "jane.smith@example.com"}]
                members = {"merchant_id": thanx.MERCHANT, "campaign_id": "camp_1", "variant_id": "var_1"}
                begun = made("thanx", "/partner/issuance_jobs", {**members, "identifiers": whom})
                return begun["issuance_job"]["id"]

            with ThreadPoolExecutor(AT_ONCE) as pool:
                receipts = pool.map(mint, range(number * 5 // 8))
                return cls(list(receipts), list(pool.map(issue, range(number // 8))))


def planned(rng: random.Random, things: Things) -> list[Call]:
    """Calls of all five operations, in any order, half of them through the relay.

    Most are about something of their own. Of redemptions many parts are reversed, and of one more than there is; badges
    and buckets are few, so that many calls about them are refused.
    """
    calls = [_receipt(rng, receipt) for receipt in things.receipts]
    calls += [of_job(job, relayed=_either(rng)) for job in things.jobs]
    reversals = len(things.receipts) // 3
    for number in range(reversals):
        redemption, most = rng.choice([(RAW, 9.0), (LOTS, 5.0), (OF_AMOUNT, 2.0)])
        calls.append(_reversal(rng, redemption, number, {"amount": f"{rng.uniform(0.01, most):.2f}"}))
    calls += [_reversal(rng, UNITS, number, {"quantity": 1}) for number in range(reversals, reversals + 4)]
    for _ in range(len(things.receipts) // 60):
        calls += [of_badge(badge, relayed=relayed) for badge, relayed in zip(BADGES, (True, False), strict=True)]
        calls += [of_bucket(voucherify.PENDING, relayed=True), of_bucket(voucherify.REJECTED, relayed=False)]
    rng.shuffle(calls)
    return calls


def of_receipt(receipt: str, *, relayed: bool, key: str | None = None) -> Call:
    """Have a receipt revoked."""
    path = f"/v1/receipts/{receipt}/revoke"
    return Call(provider="truthlocks", path=path, item=receipt, members={}, relayed=relayed, key=key)


def of_job(job: str, *, relayed: bool) -> Call:
    """Have an issuance job revoked."""
    path, members = f"/partner/issuance_jobs/{job}/revoke", {"merchant_id": thanx.MERCHANT}
    return Call(provider="thanx", path=path, item=job, members=members, relayed=relayed)


def of_redemption(
    redemption: str, part: Mapping[str, Any], *, relayed: bool, reason: str = "Refund", key: str | None = None
) -> Call:
    """Have a part of a redemption reversed, an amount or a quantity; all that is left of it, if none is named."""
    path = f"/v1/redemptions/{redemption}/reverse"
    members = {"reason": reason, **part}
    return Call(provider="scrip", path=path, item=redemption, members=members, relayed=relayed, key=key)


def of_badge(badge: str, *, relayed: bool) -> Call:
    """Have an earned badge revoked."""
    customer = str(capillary.CUSTOMER_ID)
    members = {"badgeMetaId": capillary.EARNED[badge], "customerId": customer, "earnedBadgeId": badge}
    path = "/api_gateway/v1/badges/customer/revokeEarn"
    return Call(provider="capillary", path=path, item=badge, members=members, relayed=relayed)


def of_bucket(bucket: str, *, relayed: bool) -> Call:
    """Have pending points canceled, on the card of the documented example."""
    here = voucherify.HERE
    card = f"/v2/loyalties/programs/{here.program}/members/{here.member}/cards/{here.card}"
    path = f"{card}/pending-points/{bucket}/cancel"
    return Call(provider="voucherify", path=path, item=bucket, members={}, relayed=relayed)


def _receipt(rng: random.Random, receipt: str) -> Call:
    relayed = _either(rng)
    return of_receipt(receipt, relayed=relayed, key=_key(rng, relayed))


def _reversal(rng: random.Random, redemption: str, number: int, part: Mapping[str, Any]) -> Call:
    relayed = _either(rng)
    reason, key = f"Refund of order {number}", _key(rng, relayed)
    return of_redemption(redemption, part, relayed=relayed, reason=reason, key=key)


def _either(rng: random.Random) -> bool:
    return rng.random() < 0.5


def _key(rng: random.Random, relayed: bool) -> str | None:
    """Not every caller of the relay has one: it adds its own then."""
    return None if relayed and rng.random() < 0.3 else str(uuid.UUID(int=rng.getrandbits(128), version=4))


class Callers:
    """Several who make the calls, each the next one, until all are made or left."""

    def __init__(self, calls: Sequence[Call], sandbox: str, relays: Sequence[Mapping[str, str]], key: str) -> None:
        """`relays` are the same of each receiver: by provider, the URL where its calls are passed on.

        `key` is for `X-Rescind-Key`.
        """
        self._sandbox = sandbox
        self._relays = relays
        self._key = key
        self._waiting: SimpleQueue[Call] = SimpleQueue()
        for call in calls:
            self._waiting.put(call)
        self._number = len(calls)
        self._begun = itertools.count(1)
        self._moved_on = threading.Condition()
        self._so_far = 0
        self._told: SimpleQueue[Told] = SimpleQueue()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(AT_ONCE)]

    def start(self) -> None:
        """Begin to call."""
        for thread in self._threads:
            thread.start()

    def have_begun(self, number: int) -> None:
        """Wait until so many calls were begun."""
        with self._moved_on:
            came = self._moved_on.wait_for(lambda: self._so_far >= number or self._failures, PATIENCE)
        assert came, f"{self._so_far} of {number} calls have begun within {PATIENCE} seconds"

    def finished(self) -> list[Told]:
        """Every answer that was got, once all calls are made or left."""
        for thread in self._threads:
            thread.join()
        assert self._failures == []
        return [self._told.get() for _ in range(self._told.qsize())]

    def _work(self) -> None:
        # A connection for each call: one that is broken off was of this call, and not of one before it.
        limits = httpx2.Limits(max_keepalive_connections=0)
        try:
            with httpx2.Client(timeout=PATIENCE, trust_env=False, limits=limits) as client:
                while (number := self._begin()) <= self._number:
                    self._make(client, self._waiting.get(), number)
        except BaseException as error:  # noqa: BLE001  (it is told at the end, in the test's own thread)
            self._failures.append(error)

    def _begin(self) -> int:
        with self._moved_on:
            self._so_far = next(self._begun)
            self._moved_on.notify_all()
            return self._so_far

    def _make(self, client: httpx2.Client, call: Call, number: int) -> None:
        """Make a call until it has come through, or is to be left."""
        deadline = time.monotonic() + PATIENCE
        for turn in itertools.count(number):
            assert time.monotonic() < deadline, f"{call} has not come through within {PATIENCE} seconds"
            try:
                told = self._call(client, call, turn)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                time.sleep(PAUSE)
                continue
            except httpx2.TransportError:
                if call.key is None:
                    return
                time.sleep(PAUSE)
                continue
            self._told.put(told)
            if told.is_final:
                return
            if told.is_unknown:
                call = replace(call, key=call.key or told.headers.get("x-rescind-idempotency-key"))
                if call.key is None:
                    return
            time.sleep(PAUSE)

    def _call(self, client: httpx2.Client, call: Call, turn: int) -> Told:
        headers, body = call.request()
        url = self._sandbox
        if call.relayed:
            headers["x-rescind-key"] = self._key
            url = self._relays[turn % len(self._relays)][call.provider]
        answer = client.post(f"{url}{call.path}", content=body, headers=headers)
        return Told(call, answer.status_code, answer.headers, answer.json())
