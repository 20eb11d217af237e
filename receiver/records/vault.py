"""What is kept encrypted: log keys, source secrets and the tenants' keyed-hash keys, under the data key.

The data key is 32 random bytes: a file of mode 0600 in the data folder, or a setting that all receivers of one
database share. A value is AES-256-GCM with a fresh 12-byte nonce before it, bound to the place it is kept in, so that
a value moved to another row does not open.
"""

import base64
import hmac
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from translog.guard import fsync_folder

KEY_SIZE = 32
NONCE_SIZE = 12
KEY_FILE = "data.key"


class VaultError(Exception):
    """The data key is missing, unreadable, or not the one that values were encrypted with."""


class Vault:
    """Encrypts and decrypts under one data key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)

    def derive(self, purpose: str) -> bytes:
        """32 bytes that only holders of the data key can compute: the key of a keyed hash, for one purpose."""
        return hmac.digest(self._key, b"rescind/derive/v1\n" + purpose.encode(), "sha256")

    def seal(self, place: str, value: bytes) -> bytes:
        """Encrypt a value for a place such as `secret/<id>`."""
        nonce = os.urandom(NONCE_SIZE)
        return nonce + self._cipher.encrypt(nonce, value, place.encode())

    def open(self, place: str, sealed: bytes) -> bytes:
        """Decrypt what was sealed for that place. Raises VaultError if it was not, or with another key."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], place.encode())
        except (InvalidTag, ValueError) as error:
            raise VaultError(
                f"{place} does not open with this data key. Give the key this database was made with "
                "(the data folder's data.key, or RESCIND_DATA_KEY)"
            ) from error


def parse_data_key(text: str) -> bytes:
    """The 32 bytes of a data key written in base64. Raises VaultError."""
    text = text.strip()
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise VaultError("the data key is not base64") from error
    if len(key) != KEY_SIZE:
        raise VaultError(f"the data key is {len(key)} bytes; it must be {KEY_SIZE}")
    if base64.b64encode(key).decode() != text:
        raise VaultError("the data key is not as base64 writes it; its last characters were changed")
    return key


def data_key_in(folder: Path, *, make: bool) -> bytes:
    """The data key of a data folder; made there, with mode 0600, if `make` and there is none. Raises VaultError."""
    path = folder / KEY_FILE
    if make and not path.exists():
        text = base64.b64encode(os.urandom(KEY_SIZE)) + b"\n"
        # A name that no other first start has: those in containers all have the same process id.
        fresh = folder / f"{KEY_FILE}.{secrets.token_hex(8)}"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.link(fresh, path)  # fails where another first start was faster: its key stands
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        fsync_folder(folder)  # the database must not outlive the name of its key
    try:
        return parse_data_key(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise VaultError(
            f"the data key {path} cannot be read ({error}); put it back from a copy, or set RESCIND_DATA_KEY"
        ) from error
    except VaultError as error:
        raise VaultError(f"{path}: {error}") from error
