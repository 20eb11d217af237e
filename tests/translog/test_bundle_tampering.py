"""Bundles that were tampered with: each is refused, and what is wrong is named."""

from pathlib import Path

import pytest

from tests.translog.bundles import EARLIER, make
from tests.translog.exported import VKEY, question, story
from tests.translog.tampering import TAMPERED, Tampered, good
from translog.bundle import BundleError, verify
from translog.errors import TranslogError
from translog.note import SigningKey
from translog.policy import Policy

POLICY = Policy.of(VKEY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the bundle is."""
    return tmp_path / "bundle.zip"


@pytest.mark.parametrize("tampered", TAMPERED, ids=lambda one: one.name)
def test_tampering_is_caught_where_it_is(path: Path, tampered: Tampered) -> None:
    """By the place that comes first."""
    path.write_bytes(tampered.zip())

    with pytest.raises(BundleError) as caught:
        verify(path, POLICY)
    assert caught.value.place == tampered.place
    assert str(caught.value).startswith(f"{tampered.place}: ")


def test_every_byte(path: Path) -> None:
    """One bit of any byte of the file is enough, in the ZIP's own bytes as in the files; a file is then named."""
    bundle = make(story(question("2026-07-01T12:13:30.000000Z", "2026-07-01T12:14:00.500000Z")))
    whole = bundle.zip()
    path.write_bytes(whole)
    assert verify(path, POLICY).manifest.counts["events"] == 1
    starts = {whole.index(data): (name, len(data)) for name, data in {**bundle.sealed, **bundle.files}.items() if data}

    place, end = "", 0
    with path.open("r+b", buffering=0) as file:
        for at in range(len(whole)):
            if at in starts:
                place, size = starts[at]
                end = at + size
            file.seek(at)
            file.write(bytes((whole[at] ^ 1 << at % 8,)))
            with pytest.raises(BundleError) as caught:
                verify(path, POLICY)
            assert at >= end or caught.value.place == place
            file.seek(at)
            file.write(whole[at : at + 1])
    assert verify(path, POLICY).manifest.counts["events"] == 1


def test_every_length(path: Path) -> None:
    """A file that is cut short anywhere is refused; so is one with a byte more, at either end."""
    whole = good().zip()
    for size in (*range(0, len(whole), 97), *range(len(whole) - 100, len(whole))):
        path.write_bytes(whole[:size])
        with pytest.raises(BundleError):
            verify(path, POLICY)
    for data in (whole + b"\0", b"\0" + whole, whole + whole):
        path.write_bytes(data)
        with pytest.raises(BundleError):
            verify(path, POLICY)


def test_another_key(path: Path) -> None:
    """A bundle of a log that was not named is refused by its checkpoint."""
    path.write_bytes(good().zip())
    stranger = SigningKey.generate("example.com/log/acme").verifying_key()

    with pytest.raises(BundleError, match=r"^proof/checkpoint: note: no signature by a key that was given"):
        verify(path, Policy.of(stranger))


def test_a_key_of_another_log_among_several(path: Path) -> None:
    """Of several keys, the one whose log it is suffices."""
    path.write_bytes(good().zip())
    stranger = SigningKey.generate("example.com/log/other").verifying_key()

    assert verify(path, Policy.of(stranger, VKEY)).checkpoint.origin == "example.com/log/acme"


def test_a_history_that_was_rewritten(path: Path) -> None:
    """Whoever has both keys can make another log; the checkpoint that was given out before tells of it."""
    before, log = story(), story()
    del log.entries[6]
    bundle = make(log, entry=19, size=22)
    path.write_bytes(bundle.zip())
    assert verify(path, POLICY).manifest.counts["events"] == 5

    bundle.files["proof/previous-checkpoint"] = before.checkpoint(EARLIER)
    bundle.manifest["previous"] = {"root": before.root(EARLIER).hex(), "size": EARLIER}
    path.write_bytes(bundle.seal().zip())
    with pytest.raises(BundleError, match=r"^proof/consistency\.json: the log did not only grow since"):
        verify(path, POLICY)


def test_a_file_that_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is changed while it is verified: that it was is said."""
    path.write_bytes(good().zip())

    def change(*_: object) -> None:
        path.write_bytes(good().zip() + b"more")

    monkeypatch.setattr("translog.bundle.verification._Verification.run", change)
    with pytest.raises(BundleError, match=r"^ZIP: the file was changed while it was verified"):
        verify(path, POLICY)


def test_what_is_no_file(tmp_path: Path) -> None:
    """It cannot be read, and that is said."""
    with pytest.raises(TranslogError, match=r"^cannot read .*: No such file"):
        verify(tmp_path / "nothing.zip", POLICY)
