"""Policies: whose signatures make a checkpoint one to rely on.

A policy comes from outside: from a log's operator by a channel that is trusted, from an organisation's own rules. A
key that arrives together with the file to be checked proves nothing about it. The policy here is the simplest of C2SP
tlog-policy: a list of logs, any one of which suffices, and no witnesses (`quorum none`). It shows that the log signed
a checkpoint. It cannot show that the log signed no other one: only witnesses, or readers who compare what they were
given, reveal a log that shows two faces.
"""

from dataclasses import dataclass

from translog import note
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, SignatureError
from translog.note import Kind, VerifyingKey

__all__ = ["Policy"]


@dataclass(frozen=True, slots=True)
class Policy:
    """The logs whose checkpoints are accepted, each known by its verifying key. The key's name is the log's origin.

    Raises `FormatError` without any key, with one public key twice, and for cosigners' keys (type 04), which speak
    for witnesses and never for a log.
    """

    logs: tuple[VerifyingKey, ...]

    def __post_init__(self) -> None:
        if not self.logs:
            raise FormatError("policy: no log key was given, so no checkpoint could ever be accepted")
        seen: dict[bytes, VerifyingKey] = {}
        for key in self.logs:
            if key.kind is Kind.COSIGNATURE:
                raise FormatError(
                    f"policy: {key.name}+{key.key_id:08x} is a witness's cosigning key (type 04), not a log's"
                )
            if (other := seen.setdefault(key.public, key)) is not key:
                raise FormatError(
                    f"policy: {key.name} and {other.name} are one and the same public key; give each key once"
                )

    @classmethod
    def of(cls, *vkeys: str | VerifyingKey) -> "Policy":
        """Any one of these log keys suffices. Raises `FormatError` as the class and `VerifyingKey.parse` do."""
        return cls(tuple(VerifyingKey.parse(vkey) if isinstance(vkey, str) else vkey for vkey in vkeys))

    def open(self, data: bytes) -> Checkpoint:
        """The checkpoint in the signed note `data`, signed by the key of the log that its origin names.

        Raises `FormatError` if `data` is not a signed checkpoint and `SignatureError` if it is not signed by a known
        log, if any signature by a known log is wrong, or if it is signed by one log in the name of another.
        """
        opened = note.open(data, self.logs)
        checkpoint = Checkpoint.parse(opened.text)
        if all(signature.name != checkpoint.origin for signature in opened.signatures):
            signers = ", ".join(signature.name for signature in opened.signatures)
            raise SignatureError(
                f"policy: a checkpoint of {checkpoint.origin!r} signed only by {signers}, which is another log"
            )
        return checkpoint
