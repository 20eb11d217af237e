"""The log under `/log/{tenant}/`, as any C2SP monitor reads it: checkpoint, tiles and entry bundles."""

import gzip
from collections.abc import Generator
from pathlib import Path

import pytest

from receiver.events import Kind
from receiver.records.journal import change
from tests.receiver.service import Reply, Service, problem, running, settings_in
from translog import merkle
from translog.policy import Policy
from translog.tiles import decode_bundle

IMMUTABLE = "public, max-age=31536000, immutable"
GROWN = 700  # entries: two full tiles and a partial one


def grow(service: Service, count: int) -> None:
    """Log that many entries more."""
    with change(service.records.database, service.tenant.log) as changing:
        for number in range(count):
            changing.tell(Kind.TENANT, {"action": "counted", "by": "test", "id": str(number)})


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Generator[Service]:
    """A service whose log has GROWN entries, all of them published."""
    with running(settings_in(tmp_path_factory.mktemp("log"))) as service:
        grow(service, GROWN - service.size())
        service.until_published()
        yield service


def fetch(service: Service, resource: str, accept_encoding: str | None = None, method: str = "GET") -> Reply:
    """Ask for it with the path exactly as written, and take the answer as it comes."""
    coding = "" if accept_encoding is None else f"accept-encoding: {accept_encoding}\r\n"
    request = f"{method} /log/default/{resource} HTTP/1.1\r\nhost: rescind\r\n{coding}connection: close\r\n\r\n"
    (reply,) = service.exchange(request.encode("latin-1"), body=method != "HEAD")
    return reply


def leaf_hashes(service: Service, start: int, end: int) -> bytes:
    """The hashes of these entries, from the entries themselves."""
    return b"".join(merkle.leaf_hash(service.entry(index)) for index in range(start, end))


def root(hashes: bytes) -> bytes:
    """The root over concatenated hashes."""
    return merkle.root_from_leaves([hashes[at : at + 32] for at in range(0, len(hashes), 32)])


def test_the_checkpoint(log: Service) -> None:
    """A note signed by the tenant's log; fresh for a second."""
    reply = fetch(log, "checkpoint")

    assert reply.status == 200
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["cache-control"] == "public, max-age=1"
    checkpoint = Policy.of(log.tenant.log.verifying_key).open(reply.body)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/rescind/log/default", GROWN)


def test_the_tree_from_its_tiles(log: Service) -> None:
    """All hashes and entries as a monitor fetches them give the root that the checkpoint states."""
    checkpoint = Policy.of(log.tenant.log.verifying_key).open(fetch(log, "checkpoint").body)
    paths = ["000", "001", f"002.p/{GROWN - 512}"]

    level_0 = b"".join(fetch(log, f"tile/0/{path}").body for path in paths)
    entries = [entry for path in paths for entry in decode_bundle(fetch(log, f"tile/entries/{path}").body)]
    level_1 = fetch(log, "tile/1/000.p/2").body

    assert level_0 == leaf_hashes(log, 0, GROWN)
    assert entries == [log.entry(index) for index in range(GROWN)]
    assert level_1 == root(level_0[: 256 * 32]) + root(level_0[256 * 32 : 512 * 32])
    assert root(level_0) == checkpoint.root


@pytest.mark.parametrize(
    ("resource", "start", "end"),
    [("tile/0/000", 0, 256), ("tile/0/001", 256, 512), ("tile/0/002.p/1", 512, 513), ("tile/0/000.p/7", 0, 7)],
)
def test_a_tile(log: Service, resource: str, start: int, end: int) -> None:
    """32 bytes a hash, never to change; the beginning of a full tile is still served as the partial one it was."""
    reply = fetch(log, resource)

    assert (reply.status, reply.body) == (200, leaf_hashes(log, start, end))
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["cache-control"] == IMMUTABLE
    assert "content-encoding" not in reply.headers


def test_a_tile_that_is_in_memory_is_the_same(log: Service) -> None:
    """Asked for twice, the second time it need not be read."""
    assert fetch(log, "tile/0/001").body == fetch(log, "tile/0/001").body


@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("br", False),
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*;q=0", False),
        ("*;q=0, gzip", True),
        ("gzip;q=0, *", False),
    ],
)
def test_a_bundle_is_compressed_if_that_is_asked_for(log: Service, accepted: str | None, compressed: bool) -> None:
    """And only then; caches are told that there are two."""
    reply = fetch(log, "tile/entries/000", accepted)

    assert (reply.status, reply.headers["vary"], reply.headers["cache-control"]) == (200, "accept-encoding", IMMUTABLE)
    assert reply.headers.get("content-encoding") == ("gzip" if compressed else None)
    data = gzip.decompress(reply.body) if compressed else reply.body
    assert decode_bundle(data) == [log.entry(index) for index in range(256)]


def test_compressed_it_is_the_same_each_time(log: Service) -> None:
    """No time stands in it, so that two copies can be compared."""
    assert fetch(log, "tile/entries/001", "gzip").body == fetch(log, "tile/entries/001", "gzip").body


@pytest.mark.parametrize("resource", ["checkpoint", "tile/0/000", "tile/entries/000.p/3"])
def test_head(log: Service, resource: str) -> None:
    """The same headers without the body."""
    asked, got = fetch(log, resource, method="HEAD"), fetch(log, resource)

    assert asked == Reply(got.status, got.headers, b"")
    assert int(asked.headers["content-length"]) == len(got.body)


@pytest.mark.parametrize(
    "resource",
    [
        f"tile/0/002.p/{GROWN - 511}",
        "tile/0/002",
        "tile/0/003.p/1",
        "tile/0/003",
        "tile/1/000.p/3",
        "tile/1/000",
        "tile/2/000.p/1",
        "tile/63/000",
        f"tile/entries/002.p/{GROWN - 511}",
        "tile/entries/003",
        "tile/0/x999/x999/x999/x999/x999/999",
    ],
)
def test_what_the_tree_has_not(log: Service, resource: str) -> None:
    """404 that no cache keeps: it may be there soon."""
    for method in ("GET", "HEAD"):
        reply = fetch(log, resource, method=method)
        assert (reply.status, reply.headers["cache-control"]) == (404, "no-store")
    assert problem(fetch(log, resource))["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "/checkpoint",
        "checkpoint/",
        "checkpoint%20",
        "checkpoin%74",
        "Checkpoint",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile//0/000",
        "tile/0//000",
        "tile/./0/000",
        "tile/1/../0/000",
        "tile/0/000/",
        "tile/00/000",
        "tile/+0/000",
        "tile/0/%30%30%30",
        "tile%2F0%2F000",
        "tile/0/000.p/0",
        "tile/0/000.p/00",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1_0",
        "tile/0/000.p/%201",
        "tile/0/000.p/",
        "tile/0/000.P/1",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/\u0660\u0660\u0660".encode().decode("latin-1"),
        "tile/0/%D9%A0%D9%A0%D9%A0",
        "tile/entries/0",
        "tile/Entries/000",
        "tile/entries/000.p/",
        "tile/0/000%00",
        "tile/0/000%FF",
        "tile/0/000;v=1",
    ],
)
def test_paths_have_one_spelling(log: Service, resource: str) -> None:
    """404 for any other, though a server might take it for the same."""
    reply = fetch(log, resource)

    assert reply.status in {404, 400 if not resource.isascii() else 404}
    problem(reply)


def test_a_query_changes_nothing(log: Service) -> None:
    """The path alone says what is wanted."""
    assert fetch(log, "tile/0/000?x=1").body == fetch(log, "tile/0/000").body


@pytest.mark.parametrize("tenant", ["nobody", "DEFAULT", "def%61ult", "..", "%00"])
def test_a_log_that_is_not_there(log: Service, tenant: str) -> None:
    """404."""
    (reply,) = log.exchange(f"GET /log/{tenant}/checkpoint HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())

    assert (reply.status, problem(reply)["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nobody_writes_to_it(log: Service, method: str) -> None:
    """405."""
    answer = log.client.request(method, "/log/default/checkpoint")

    assert (answer.status_code, problem(answer)["status"]) == (405, 405)


def test_nothing_beyond_the_checkpoint_is_served(tmp_path: Path) -> None:
    """Entries that are recorded and not published yet are in no tile, bundle or checkpoint."""
    with running(settings_in(tmp_path, publish_interval=60)) as service:
        published = service.tenant.log.published_size
        grow(service, 300)
        held = [
            fetch(service, resource).status
            for size in (published, published + 1)
            for resource in (f"tile/0/000.p/{size}", f"tile/entries/000.p/{size}")
        ]
        full = [fetch(service, resource).status for resource in ("tile/0/000", "tile/entries/000", "tile/1/000.p/1")]
        stated = Policy.of(service.tenant.log.verifying_key).open(fetch(service, "checkpoint").body).size

    assert held == [200, 200, 404, 404]
    assert full == [404, 404, 404]
    assert stated == published
