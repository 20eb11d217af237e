"""`receiver.records.vault`: what is sealed opens where it was sealed, and the data key is made once."""

import base64
import hashlib
import hmac
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from receiver.records.vault import KEY_FILE, Vault, VaultError, data_key_in, parse_data_key

KEY = bytes(range(32))
TEXT = base64.b64encode(KEY).decode()


@pytest.mark.parametrize("value", [b"", b"secret", bytes(1000)])
def test_what_is_sealed_opens(value: bytes) -> None:
    """A value opens for its place and under its key, and is longer by nonce and tag; twice sealed it differs."""
    vault = Vault(KEY)
    sealed = vault.seal("secret/1", value)
    assert vault.open("secret/1", sealed) == Vault(KEY).open("secret/1", sealed) == value
    assert len(sealed) == 12 + len(value) + 16
    assert vault.seal("secret/1", value) != sealed


def test_it_opens_nowhere_else() -> None:
    """Neither for another place, nor under another key, nor with any bit changed or any byte missing."""
    vault = Vault(KEY)
    sealed = vault.seal("secret/1", b"secret")
    for place in ("secret/2", "secret/", "", "log/1"):
        with pytest.raises(VaultError, match=f"{place} does not open with this data key"):
            vault.open(place, sealed)
    with pytest.raises(VaultError, match="RESCIND_DATA_KEY"):
        Vault(bytes(32)).open("secret/1", sealed)
    spoilt = [sealed[:end] for end in range(len(sealed))] + [sealed + b"\0", sealed[1:]]
    spoilt += [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for data in spoilt:
        with pytest.raises(VaultError):
            vault.open("secret/1", data)


def test_derived_keys() -> None:
    """A derived key is an HMAC of its purpose under the data key, so that no two purposes share one."""
    expected = hmac.new(KEY, b"rescind/derive/v1\nsecret-fingerprint", hashlib.sha256).digest()
    assert Vault(KEY).derive("secret-fingerprint") == expected
    assert Vault(KEY).derive("another") != expected
    assert Vault(bytes(32)).derive("secret-fingerprint") != expected


@pytest.mark.parametrize("text", [TEXT, f"{TEXT}\n", f"  {TEXT}\r\n"])
def test_a_data_key_as_text(text: str) -> None:
    """Base64 of 32 bytes, as files and settings have it, whatever white space is around it."""
    assert parse_data_key(text) == KEY


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 bytes; it must be 32"),
        ("!", "not base64"),
        (TEXT[:-1], "not base64"),
        (f"{TEXT[:20]} {TEXT[20:]}", "not base64"),
        (f"{TEXT[:-2]}é=", "not base64"),
        ("-" + TEXT[1:], "not base64"),
        (KEY.hex(), "48 bytes; it must be 32"),
        (base64.b64encode(KEY[:31]).decode(), "31 bytes; it must be 32"),
        (base64.b64encode(bytes(33)).decode(), "33 bytes; it must be 32"),
        (TEXT[:-2] + "9=", "not as base64 writes it"),
    ],
)
def test_what_is_no_data_key(text: str, message: str) -> None:
    """Anything but the one spelling of 32 bytes is refused, by a message that does not repeat it."""
    with pytest.raises(VaultError, match=message) as caught:
        parse_data_key(text)
    assert len(text) < 5 or text not in str(caught.value)


def test_the_key_file_is_made_once(tmp_path: Path) -> None:
    """It is for its owner only, holds what `parse_data_key` reads, and stays; nothing else is left in the folder."""
    with pytest.raises(VaultError, match=r"cannot be read .*put it back from a copy"):
        data_key_in(tmp_path, make=False)
    key = data_key_in(tmp_path, make=True)
    file = tmp_path / KEY_FILE
    assert file.read_text() == base64.b64encode(key).decode() + "\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert data_key_in(tmp_path, make=True) == data_key_in(tmp_path, make=False) == key
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert data_key_in(_folder(tmp_path / "other"), make=True) != key


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"AAAA\n", TEXT.encode()[:-4]])
def test_a_damaged_key_file_is_not_replaced(tmp_path: Path, content: bytes) -> None:
    """What is there is never overwritten: it may be the rest of a key that values were sealed with."""
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(VaultError, match=KEY_FILE):
        data_key_in(tmp_path, make=True)
    assert (tmp_path / KEY_FILE).read_bytes() == content


def test_another_first_start_that_is_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If another one makes the key between the steps of this one, both have that one's key, same process id or not."""
    others: list[bytes] = []
    link = os.link

    def meanwhile(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        others.append(data_key_in(tmp_path, make=True))
        link(source, target)

    monkeypatch.setattr(os, "link", meanwhile)
    assert [data_key_in(tmp_path, make=True)] == others
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert data_key_in(tmp_path, make=False) == others[0]


def test_first_starts_at_once(tmp_path: Path) -> None:
    """However many start at once, all have one key."""
    for attempt in range(20):
        folder = _folder(tmp_path / str(attempt))
        together = threading.Barrier(4)

        def start(folder: Path = folder, together: threading.Barrier = together) -> bytes:
            together.wait()
            return data_key_in(folder, make=True)

        with ThreadPoolExecutor(4) as pool:
            starts = [pool.submit(start) for _ in range(4)]
            assert {one.result(10) for one in starts} == {data_key_in(folder, make=False)}
        assert [path.name for path in folder.iterdir()] == [KEY_FILE]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
