"""`receiver.assurance.addresses`: subscriptions call public addresses and allowed networks, in whatever spelling."""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.assurance.addresses import (
    MAX_URL,
    SETTING,
    AddressError,
    NoAddressError,
    Resolve,
    may_be_called,
    networks,
    parse,
    permitted,
    resolve,
)

PUBLIC = [
    "8.8.8.8",
    "93.184.215.14",
    "100.63.255.255",
    "100.128.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.1.255",
    "2001:200::1",
    "2606:4700::1111",
    "2a00::1",
]

NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "168.63.129.16",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.192",
    "192.0.0.255",
    "192.0.2.1",
    "192.88.99.1",
    "192.88.99.2",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::8.8.8.8",
    "100::1",
    "100:0:0:1::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:1::1",
    "2001:2::1",
    "2001:3::1",
    "2001:20::1",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::1",
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "64:ff9b:1::808:808",
]


def resolving(*found: str) -> Resolve:
    """A resolver that knows one host."""

    def resolve(_host: str, _port: int) -> Sequence[str]:
        return found

    return resolve


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_called(address: str) -> None:
    """Whatever can be reached from everywhere."""
    assert may_be_called(address, ())


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_other_addresses_may_not(address: str) -> None:
    """Neither loopback, private, link-local, shared, documentation, benchmark, multicast nor reserved ones."""
    assert not may_be_called(address, ())


@pytest.mark.parametrize("address", [one for one in (*PUBLIC, *NOT_PUBLIC) if ":" not in one])
def test_an_ipv4_address_in_ipv6_is_that_address(address: str) -> None:
    """Mapped, it is the same socket; behind a NAT64, it is where the packet goes."""
    assert may_be_called(f"::ffff:{address}", ()) == may_be_called(address, ())
    assert may_be_called(f"64:ff9b::{address}", ()) == may_be_called(address, ())


@pytest.mark.parametrize(
    "text", ["fe80::1%eth0", "2606:4700::1111%1", "", "localhost", "1.2.3", "0x8080808", "8.8.8.8/32"]
)
def test_what_is_no_address_of_everywhere_may_not(text: str) -> None:
    """Neither one with a zone, which is a place on this machine, nor what is none."""
    assert not may_be_called(text, networks("0.0.0.0/0, ::/0"))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_public_is_never_more_than_what_the_registries_say(address: IPv4Address | IPv6Address) -> None:
    """What may be called is global and not multicast, by the standard library as well; but for what NAT64 leads to."""
    if may_be_called(str(address), ()):
        inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        if isinstance(address, IPv6Address) and str(address).startswith("64:ff9b:"):
            inner = IPv4Address(address.packed[12:])
        assert (inner or address).is_global
        assert not (inner or address).is_multicast


def test_allowed_networks_may_be_called() -> None:
    """Those and no others, each also as a single address, and in the spelling that IPv6 has for IPv4."""
    allowed = networks(" 10.1.0.0/16,192.168.7.7 , fd00::/8")

    assert [may_be_called(one, allowed) for one in ("10.1.2.3", "192.168.7.7", "fd12::1", "::ffff:10.1.2.3")] == [
        True
    ] * 4
    assert [may_be_called(one, allowed) for one in ("10.2.0.1", "192.168.7.8", "fe80::1", "127.0.0.1")] == [False] * 4
    assert networks("") == ()


# ---- URLs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "scheme", "authority", "port", "target"),
    [
        ("https://hooks.example.com/a?b=c", "https", "hooks.example.com", 443, b"/a?b=c"),
        ("HTTPS://Hooks.Example.com", "https", "hooks.example.com", 443, b"/"),
        ("http://hooks.example.com:8080/", "http", "hooks.example.com:8080", 8080, b"/"),
        ("https://h:443/%2e%2e/x", "https", "h", 443, b"/%2e%2e/x"),
        ("http://[2606:4700::1111]:80/x", "http", "[2606:4700::1111]", 80, b"/x"),
        ("https://h?x=/a:b@c", "https", "h", 443, b"/?x=/a:b@c"),
        ("http://0x7f000001/", "http", "0x7f000001", 80, b"/"),
    ],
)
def test_what_a_url_names(url: str, scheme: str, authority: str, port: int, target: bytes) -> None:
    """Scheme, host and port as they are sent, and path and query as they were given."""
    endpoint = parse(url)
    at = endpoint.at("8.8.8.8")

    assert (endpoint.scheme, endpoint.authority, endpoint.port) == (scheme, authority, port)
    assert (at.scheme, at.host, at.port or {"http": 80, "https": 443}[scheme], at.raw_path) == (
        scheme,
        "8.8.8.8",
        port,
        target,
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://h/",
        "file:///etc/passwd",
        "https:///x",
        "https://user@h/",
        "https://user:word@h/",
        "https://h/#fragment",
        "https://h:0/",
        "https://h:65536/",
        "https://h:x/",
        "https://h/a b",
        "https://h/\r\nx",
        "https://h\\@evil/",
        "https://h/%",
        "https://h/%zz",
        "https://h/é",
        "https://bücher.example/",
        "https://h./",
        "https://.h/",
        "https://h..x/",
        "https://[::1%25lo]/",
        "https://[::g]/",
        "https://[1.2.3.4]/",
        "https://" + "h" * 64 + "/",
        "https://" + ".".join(["h" * 60] * 5) + "/",
        "https://h/../x",
        "https://h/a/./x",
        "https://h/" + "x" * MAX_URL,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    """With a sentence that does not repeat them: there may be a secret in one."""
    with pytest.raises(AddressError) as raised:
        parse(url)
    assert not url or url not in str(raised.value)


# ---- resolving ------------------------------------------------------------------------------------------------------


def test_every_address_of_a_host_must_be_allowed() -> None:
    """One public address does not make up for another one; the message names the setting, and no address."""
    endpoint = parse("https://hooks.example.com/")

    assert permitted(endpoint, (), resolving("8.8.8.8", "2a00::1")) == ["8.8.8.8", "2a00::1"]
    for found in (["8.8.8.8", "10.0.0.1"], ["::1"], ["169.254.169.254", "8.8.8.8"], ["nonsense"]):
        with pytest.raises(AddressError, match=SETTING) as raised:
            permitted(endpoint, (), resolving(*found))
        assert not any(one in str(raised.value) for one in found)
    assert permitted(endpoint, networks("10.0.0.0/8"), resolving("8.8.8.8", "10.0.0.1")) == ["8.8.8.8", "10.0.0.1"]


def test_a_host_without_an_address_is_told_apart() -> None:
    """It may have one later; of a name that may not be called nothing will change."""

    def failing(_host: str, _port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "nobody")

    for nothing in (resolving(), failing):
        with pytest.raises(NoAddressError):
            permitted(parse("https://nobody.example/"), (), nothing)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "localhost", "[::1]"]
)
def test_no_spelling_hides_this_machine(host: str) -> None:
    """The real resolver makes an address of each, and it is that which is looked at."""
    with pytest.raises(AddressError, match=SETTING):
        permitted(parse(f"http://{host}:8000/"), ())


def test_the_resolver_names_each_address_once() -> None:
    """As text, for whatever port."""
    assert resolve("127.0.0.1", 443) == ["127.0.0.1"]
    assert len(set(resolve("localhost", 80))) == len(resolve("localhost", 80))
