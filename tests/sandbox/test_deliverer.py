"""The deliverer: what is owed is sent until it was taken, signed, and to nobody but whom it is for."""

import base64
import threading
from pathlib import Path

import pytest
import standardwebhooks

from receiver import providers
from receiver.sandbox.deliverer import AT_ONCE, Destination
from receiver.sandbox.issuers import issuers
from receiver.sandbox.ledger import Ledger
from tests.receiver.service import until
from tests.sandbox.inbox import Delivery, Inbox, inbox
from tests.sandbox.service import Sandbox, running

PROVIDER = "scrip"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TOKEN = "a-token-that-is-long-enough"


def to(there: Inbox) -> dict[str, Destination]:
    """Everything of one issuer goes there."""
    return {PROVIDER: Destination(there.url, SECRET)}


def owe(ledger: Ledger, *bodies: bytes, provider: str = PROVIDER) -> None:
    """Have an issuer owe that, in acts of their own."""
    for body in bodies:
        with ledger.act(provider) as act:
            act.notify(body)


def settled(sandbox: Sandbox) -> bool:
    """Whether nothing is owed any more."""
    return not sandbox.ledger.owed()


def test_a_notice_is_delivered_once_and_then_owed_no_more(tmp_path: Path) -> None:
    """Its body byte for byte, to the path of the URL."""
    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        owe(sandbox.ledger, b'{"n": 1}')
        until(lambda: settled(sandbox))

        assert [(one.path, one.body) for one in there.came] == [("/webhooks/here", b'{"n": 1}')]


def test_it_is_signed_as_its_issuer_signs(tmp_path: Path) -> None:
    """With the secret of its destination, so that somebody else's verifier takes it."""
    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        owe(sandbox.ledger, b'{"n": 1}')
        until(lambda: there.taken)

    [delivery] = there.came
    assert standardwebhooks.Webhook(SECRET).verify(delivery.body, dict(delivery.headers)) == {"n": 1}
    assert delivery.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_any_2xx_takes_it(status: int, tmp_path: Path) -> None:
    """And it does not come again."""
    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        there.answers = lambda _: status
        owe(sandbox.ledger, b"{}")
        until(lambda: settled(sandbox))

        assert len(there.came) == 1


@pytest.mark.parametrize("status", [300, 400, 401, 404, 410, 429, 500, 503])
def test_nothing_else_does(status: int, tmp_path: Path) -> None:
    """It comes again, under the same id, until it is taken."""
    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        there.answers = lambda delivery: status if there.count(delivery.id) < 3 else 200
        owe(sandbox.ledger, b"{}")
        until(lambda: settled(sandbox))

    assert [one.body for one in there.came] == [b"{}"] * 3
    assert len({one.id for one in there.came}) == 1


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    """Where it points to is not where the notice was to go."""
    with inbox() as there, inbox() as elsewhere, running(tmp_path, to(there)) as sandbox:
        there.location = elsewhere.url
        there.answers = lambda delivery: 307 if there.count(delivery.id) < 2 else 200
        owe(sandbox.ledger, b"{}")
        until(lambda: settled(sandbox))

    assert (len(there.came), elsewhere.came) == (2, [])


def test_the_environment_names_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notice goes where the command said."""
    with inbox() as proxy, inbox() as there:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with running(tmp_path, to(there)) as sandbox:
            owe(sandbox.ledger, b"{}")
            until(lambda: settled(sandbox))

    assert (len(there.taken), proxy.came) == (1, [])


def test_what_nobody_takes_keeps_nothing_waiting(tmp_path: Path) -> None:
    """More of them than may be on their way at once, and yet whatever comes after them is delivered."""
    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        there.answers = lambda delivery: 400 if delivery.body == b"bad" else 200
        owe(sandbox.ledger, *[b"bad"] * (AT_ONCE + 1), b"good")
        until(lambda: there.taken)

        assert there.bodies() == [b"good"]
        until(lambda: len(sandbox.ledger.owed()) == AT_ONCE + 1)
        there.answers = lambda _: 200
        until(lambda: settled(sandbox))


def test_only_so_many_are_on_their_way_at_once(tmp_path: Path) -> None:
    """However much is owed."""
    released, held, most = threading.Event(), set[str](), list[int]()

    def hold(delivery: Delivery) -> int:
        held.add(delivery.id)
        most.append(len(held))
        released.wait(10)
        held.discard(delivery.id)
        return 204

    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        there.answers = hold
        owe(sandbox.ledger, *(b"%d" % number for number in range(3 * AT_ONCE)))
        until(lambda: len(there.came) == AT_ONCE)
        released.set()
        until(lambda: settled(sandbox))

    assert max(most) == AT_ONCE
    assert len(there.bodies()) == 3 * AT_ONCE


def test_one_destination_does_not_hold_up_another(tmp_path: Path) -> None:
    """Each has a bound of its own."""
    released = threading.Event()
    with inbox() as slow, inbox() as quick:
        slow.answers = lambda _: 204 if released.wait(10) else 503
        destinations = {**to(slow), "capillary": Destination(quick.url, TOKEN)}
        with running(tmp_path, destinations) as sandbox:
            owe(sandbox.ledger, *(b"%d" % number for number in range(AT_ONCE + 1)))
            until(lambda: len(slow.came) == AT_ONCE)
            owe(sandbox.ledger, b"{}", provider="capillary")
            until(lambda: quick.taken)
            assert slow.taken == []
            released.set()
            until(lambda: settled(sandbox))


def test_what_a_stopped_sandbox_owes_is_delivered_by_the_next(tmp_path: Path) -> None:
    """It is in the database until it was taken."""
    with inbox() as there:
        gone = to(there)
    with running(tmp_path, gone) as sandbox:
        owe(sandbox.ledger, b"1", b"2")

    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        until(lambda: settled(sandbox))

        assert there.bodies() == [b"1", b"2"]


def test_what_was_taken_is_not_sent_by_the_next(tmp_path: Path) -> None:
    """Only what is owed is."""
    with inbox() as there:
        with running(tmp_path, to(there)) as sandbox:
            owe(sandbox.ledger, b"1")
            until(lambda: settled(sandbox))
        with running(tmp_path, to(there)) as sandbox:
            owe(sandbox.ledger, b"2")
            until(lambda: settled(sandbox))

    assert [one.body for one in there.came] == [b"1", b"2"]


def test_what_nobody_was_to_be_told_is_never_told(tmp_path: Path) -> None:
    """A destination holds for the run that names it: what was done before that was nobody's to know."""
    with inbox() as there:
        with running(tmp_path, {}) as sandbox:
            owe(sandbox.ledger, b"1")
        with running(tmp_path, to(there)) as sandbox:
            owe(sandbox.ledger, b"2", provider="capillary")
            owe(sandbox.ledger, b"3")
            until(lambda: settled(sandbox))

    assert [one.body for one in there.came] == [b"3"]


def test_what_one_run_was_to_tell_waits_for_the_next_that_tells(tmp_path: Path) -> None:
    """A run in between that names somebody else, or nobody, neither sends nor forgets it; the URL is the new run's."""
    with inbox() as gone, running(tmp_path, to(gone)) as sandbox:
        gone.answers = lambda _: 503
        owe(sandbox.ledger, b"1")
        until(lambda: gone.came)
    with inbox() as other, running(tmp_path, {"capillary": Destination(other.url, TOKEN)}) as sandbox:
        owe(sandbox.ledger, b"2")
        owe(sandbox.ledger, b"3", provider="capillary")
        until(lambda: settled(sandbox))
    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        until(lambda: settled(sandbox))

    assert [one.body for one in other.came] == [b"3"]
    assert [one.body for one in there.came] == [b"1"]


def test_a_reset_forgets_nothing_that_is_owed(tmp_path: Path) -> None:
    """What is in the log happened, and is told of."""
    with inbox() as there, running(tmp_path, to(there)) as sandbox:
        there.answers = lambda _: 503
        owe(sandbox.ledger, b"1")
        until(lambda: there.came)
        assert sandbox.client.post("/sandbox/reset").status_code == 204
        there.answers = lambda _: 200
        until(lambda: settled(sandbox))

        assert there.bodies() == [b"1"]


@pytest.mark.parametrize("provider", providers.names())
def test_every_issuer_signs_what_goes_over_the_wire(provider: str, tmp_path: Path) -> None:
    """Its headers are such that an HTTP client sends them."""
    with inbox() as there, running(tmp_path, {provider: Destination(there.url, SECRET)}) as sandbox:
        owe(sandbox.ledger, b"{}", provider=provider)
        until(lambda: settled(sandbox))

    [delivery] = there.taken
    signed = issuers()[provider].sign(b"{}", SECRET, "id", 0)
    assert {name.lower() for name in signed} <= delivery.headers.keys()
    assert delivery.headers["content-type"] == "application/json"
