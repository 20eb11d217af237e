"""Policies: whose signatures make a checkpoint one to rely on.

A policy comes from outside: from a log's operator by a channel that is trusted, from an organisation's own rules. A
key that arrives together with the file to be checked proves nothing about it. The simplest policy is a list of logs,
any one of which suffices (`Policy.of`). It shows that the log signed a checkpoint. It cannot show that the log signed
no other one: only witnesses, or readers who compare what they were given, reveal a log that shows two faces. So a
policy file can also ask that witnesses have cosigned, and how many of which:

    log example.com/log+4d6e…+AbCd… https://example.com/log/    any one of the logs; the URL may be left out

    witness X1 x1.example/witness+90ab…+BEFG…                   the name is for the lines below, and nothing else
    witness X2 x2.example/witness+12cd…+BHIJ…
    witness X3 x3.example/witness+34ef…+BKLM…
    witness Y  y.example/witness+56ab…+BNOP…
    group X 2 X1 X2 X3                                          at least two of the three; or any, or all
    group X-and-Y all X Y                                       groups of groups
    quorum X-and-Y                                              what must have cosigned; none: no witness at all

A comment is a line of its own that begins with #. A line uses only names that a line above it defines, and each is a
member of one group at most: so a quorum is a tree, and no witness counts twice. No two logs have one public key, and
no two witnesses: whoever holds one key is one party. A log may be its own witness, if the policy says so: one public
key may be that of a log and of a witness.

The text beyond ASCII is opaque: names and URLs are held as the octets of the file, `bytes`, and two names are the same
if their octets are. Two choices are ours: a file without a log line is refused, as nothing else tells here which
log is meant, and a threshold has no leading zeros. A cosignature's time is not compared with a clock.

Follows C2SP tlog-policy.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from translog import note
from translog.canonical import decimal
from translog.checkpoint import Checkpoint
from translog.errors import FormatError, SignatureError
from translog.note import Kind, Note, VerifyingKey

__all__ = ["MAX_LINES", "Group", "LogLine", "Policy", "Witness"]

MAX_LINES = 64
"""The most logs a policy may have, the most witnesses, and the most groups."""

_FORBIDDEN = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_WORD = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_NONE = b"none"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A log whose checkpoints are accepted, and the URL that the policy gives for it, as octets.

    Raises `FormatError` for a witness's key (type 04), and for what a policy file cannot hold.
    """

    key: VerifyingKey
    url: bytes | None = None

    def __post_init__(self) -> None:
        what = f"log {_called(self.key)}"
        if self.key.kind is Kind.COSIGNATURE:
            raise FormatError(f"{what}: this is a witness's cosigning key (type 04), not a log's")
        _check_words(what, self.words())

    def words(self) -> list[bytes]:
        """The line's words in a policy file."""
        return [b"log", str(self.key).encode(), *_given(self.url)]


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness, the `name` by which groups and the quorum refer to it, and its URL; both as octets.

    Raises `FormatError` for a key that does not cosign (types 04 and 06 do), and for what a policy file cannot hold.
    """

    name: bytes
    key: VerifyingKey
    url: bytes | None = None

    def __post_init__(self) -> None:
        what = f"witness {_quoted(self.name)}"
        if self.key.kind not in {Kind.COSIGNATURE, Kind.ML_DSA_44}:
            raise FormatError(
                f"{what}: {_called(self.key)} is a key of type {self.key.kind:02x}; witnesses have types 04 and 06"
            )
        _check_words(what, self.words())

    def words(self) -> list[bytes]:
        """The line's words in a policy file."""
        return [b"witness", self.name, str(self.key).encode(), *_given(self.url)]


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and groups, by name: it has witnessed a checkpoint once `threshold` of its `members` have.

    Raises `FormatError` unless the threshold is at least 1 and at most the number of members, and for names that a
    policy file cannot hold.
    """

    name: bytes
    threshold: int
    members: tuple[bytes, ...]

    def __post_init__(self) -> None:
        what = f"group {_quoted(self.name)}"
        if not 1 <= self.threshold <= len(self.members):
            raise FormatError(f"{what}: a threshold of {self.threshold} for {len(self.members)} members")
        _check_words(what, self.words())

    def words(self) -> list[bytes]:
        """The line's words in a policy file: `all` and `any` where they say the same as the threshold."""
        thresholds = {1: b"any", len(self.members): b"all"}
        threshold = thresholds.get(self.threshold, b"%d" % self.threshold)
        return [b"group", self.name, threshold, *self.members]


@dataclass(frozen=True, slots=True)
class Policy:
    """The logs whose checkpoints are accepted, and the witnesses who must have cosigned them.

    `quorum` is the name of a witness or group, or `none`: no witness is asked for. A log's key has the name that its
    checkpoints have as origin; or, where `origin` is given, any of the logs' keys signs for that origin and no other is
    accepted (there are logs whose keys have other names). `origin` is no part of a policy file.

    Raises `FormatError` without any log, for two logs or two witnesses of one public key, for different keys of one
    name and ID, for names that are not defined or defined twice, for a member of two groups, for more than
    `MAX_LINES` of a sort, and for an origin that no checkpoint has.
    """

    log_lines: tuple[LogLine, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: bytes = _NONE
    origin: str | None = None

    def __post_init__(self) -> None:
        defined = _Defined()
        for log in self.log_lines:
            defined.add_log(log)
        for witness in self.witnesses:
            defined.add_witness(witness)
        for group in self.groups:
            defined.add_group(group)
        defined.check_quorum(self.quorum)
        if not self.log_lines:
            raise FormatError(
                "policy: no log key was given, so no checkpoint could ever be accepted; a policy file needs a log line"
            )
        if self.origin is not None:
            Checkpoint(self.origin, 0, bytes(32))

    @classmethod
    def of(cls, *vkeys: str | VerifyingKey, origin: str | None = None) -> "Policy":
        """Any one of these log keys suffices. Raises `FormatError` as the class and `VerifyingKey.parse` do."""
        keys = (VerifyingKey.parse(vkey) if isinstance(vkey, str) else vkey for vkey in vkeys)
        return cls(tuple(LogLine(key) for key in keys), origin=origin)

    @classmethod
    def parse(cls, data: bytes, origin: str | None = None) -> "Policy":
        """The policy in the file `data`. Raises `FormatError` that names the line, if it has a fault in one line."""
        if found := _FORBIDDEN.search(data):
            line = data.count(b"\n", 0, found.start()) + 1
            raise FormatError(f"policy, line {line}: the octet {found[0].hex()} is not allowed in a policy file")
        *lines, rest = data.split(b"\n")
        if rest:
            raise FormatError(
                f"policy, line {len(lines) + 1}: no newline at its end; add one, unless the file was cut short"
            )
        defined = _Defined()
        for number, line in enumerate(lines, 1):
            try:
                _read(line.split(), defined)
            except FormatError as error:
                raise FormatError(f"policy, line {number}: {error}") from None
        if not defined.quorums:
            raise FormatError("policy: no quorum line; where no witness is asked for, write: quorum none")
        return cls(
            tuple(defined.logs), tuple(defined.witnesses), tuple(defined.groups), defined.quorums[0], origin=origin
        )

    def encode(self) -> bytes:
        """The policy file in its one canonical spelling: logs, witnesses, groups, quorum; no comments, single spaces.

        Its policy is this one, with the same origin given.
        """
        lines = [line.words() for line in (*self.log_lines, *self.witnesses, *self.groups)]
        lines.append([b"quorum", self.quorum])
        return b"".join(b" ".join(words) + b"\n" for words in lines)

    @property
    def text(self) -> str:
        """`encode()` as text; octets that are not UTF-8 become lone surrogates in it, as with `surrogateescape`."""
        return self.encode().decode(errors="surrogateescape")

    def __str__(self) -> str:
        return self.text

    @property
    def logs(self) -> tuple[VerifyingKey, ...]:
        """The keys of the logs."""
        return tuple(line.key for line in self.log_lines)

    def open(self, data: bytes) -> Checkpoint:
        """The checkpoint in the signed note `data`, signed by the log that its origin names, cosigned by the quorum.

        Raises `FormatError` if `data` is not a signed checkpoint, and `SignatureError` if it is not signed by a known
        log, if any signature by a known log or witness is wrong, if it is signed by one log in the name of another,
        or if the quorum is not met: the message then says who is missing.
        """
        witnesses = [witness.key for witness in self.witnesses]
        opened = note.open(data, dict.fromkeys((*self.logs, *witnesses)))
        checkpoint = self._of_log(opened)
        signed = _signers(opened)
        cosigners = {witness.name for witness in self.witnesses if _identity(witness.key) in signed}
        if not self.met_by(cosigners):
            names = ", ".join(map(_quoted, sorted(cosigners))) or "no known witness"
            lacking = self._lacking(self.quorum, self._witnessed(cosigners))
            raise SignatureError(
                f"policy: a checkpoint of {checkpoint.origin!r} cosigned by {names}; the quorum lacks {lacking}"
            )
        return checkpoint

    def open_log(self, data: bytes) -> Checkpoint:
        """As `open`, but witnesses are not looked at: what the log itself stands for, with or without them."""
        return self._of_log(note.open(data, self.logs))

    def met_by(self, cosigners: Collection[bytes]) -> bool:
        """Whether the witnesses of these names make the quorum."""
        return self.quorum in self._witnessed(cosigners)

    def _of_log(self, opened: Note) -> Checkpoint:
        """The checkpoint in an opened note, if a log signed it that speaks for its origin."""
        checkpoint = Checkpoint.parse(opened.text)
        signed = _signers(opened)
        signers = [key.name for key in self.logs if _identity(key) in signed]
        if not signers:
            names = ", ".join(signature.name for signature in opened.signatures)
            raise SignatureError(
                f"policy: a checkpoint of {checkpoint.origin!r} signed by no known log, only cosigned by {names}"
            )
        if self.origin is not None:
            if checkpoint.origin != self.origin:
                raise SignatureError(f"policy: a checkpoint of {checkpoint.origin!r}, not of {self.origin!r}")
        elif checkpoint.origin not in signers:
            raise SignatureError(
                f"policy: a checkpoint of {checkpoint.origin!r} signed only by {', '.join(signers)}, which is another "
                "log; if this is the right log, its origin is not its key's name: give the origin with the policy"
            )
        return checkpoint

    def _witnessed(self, cosigners: Collection[bytes]) -> set[bytes]:
        """`none`, and the names of witnesses and groups that have witnessed what these witnesses cosigned."""
        witnessed = {_NONE, *(witness.name for witness in self.witnesses if witness.name in cosigners)}
        for group in self.groups:  # its members are before it
            if sum(member in witnessed for member in group.members) >= group.threshold:
                witnessed.add(group.name)
        return witnessed

    def _lacking(self, name: bytes, witnessed: set[bytes]) -> str:
        """What has to cosign yet, so that the witness or group of that name has witnessed."""
        for group in self.groups:
            if group.name == name:
                missing = group.threshold - sum(member in witnessed for member in group.members)
                rest = [self._lacking(member, witnessed) for member in group.members if member not in witnessed]
                return f"{missing} more of {_quoted(name)} ({', '.join(rest)})"
        return _quoted(name)


@dataclass(slots=True)
class _Defined:
    """What lines have defined so far, and so what the next may say; each method raises `FormatError` if it may not."""

    logs: list[LogLine] = field(default_factory=list[LogLine])
    witnesses: list[Witness] = field(default_factory=list[Witness])
    groups: list[Group] = field(default_factory=list[Group])
    quorums: list[bytes] = field(default_factory=list[bytes])
    names: set[bytes] = field(default_factory=set[bytes])
    members: set[bytes] = field(default_factory=set[bytes])

    def add_log(self, log: LogLine) -> None:
        self._check_key(log.key, [other.key for other in self.logs])
        self.logs.append(log)
        _check_number(self.logs, "logs")

    def add_witness(self, witness: Witness) -> None:
        self._check_key(witness.key, [other.key for other in self.witnesses])
        self._define(witness.name)
        self.witnesses.append(witness)
        _check_number(self.witnesses, "witnesses")

    def add_group(self, group: Group) -> None:
        what = f"group {_quoted(group.name)}"
        for member in group.members:
            if member not in self.names:
                raise FormatError(f"{what}: no line before it defines its member {_quoted(member)}")
            if member in self.members:
                raise FormatError(f"{what}: {_quoted(member)} is already a member; each name is in one group, once")
            self.members.add(member)
        self._define(group.name)
        self.groups.append(group)
        _check_number(self.groups, "groups")

    def add_quorum(self, name: bytes) -> None:
        if self.quorums:
            raise FormatError("a second quorum line; there is exactly one")
        self.check_quorum(name)
        self.quorums.append(name)

    def check_quorum(self, name: bytes) -> None:
        if name not in {_NONE, *self.names}:
            raise FormatError(f"quorum: no line before it defines {_quoted(name)}")

    def _define(self, name: bytes) -> None:
        if name == _NONE:
            raise FormatError("the name 'none' means that no witness is asked for; give another one")
        if name in self.names:
            raise FormatError(f"the name {_quoted(name)} is already defined; witnesses and groups share their names")
        self.names.add(name)

    def _check_key(self, key: VerifyingKey, alike: Iterable[VerifyingKey]) -> None:
        for other in alike:
            if other.public == key.public:
                raise FormatError(
                    f"{key.name} and {other.name} are one and the same public key ({_called(key)}); give each key once"
                )
        for other in (*(log.key for log in self.logs), *(witness.key for witness in self.witnesses)):
            if other != key and _identity(other) == _identity(key):
                raise FormatError(f"two different keys are called {_called(key)}; no signature tells which one made it")


def _read(words: list[bytes], defined: _Defined) -> None:
    """Add what a line defines; nothing, if it is empty or a comment."""
    match words:
        case []:
            pass
        case [word, *_] if word.startswith(b"#"):
            pass
        case [b"log", vkey, *url] if len(url) <= 1:
            defined.add_log(LogLine(_key(vkey), *url))
        case [b"witness", name, vkey, *url] if len(url) <= 1:
            defined.add_witness(Witness(name, _key(vkey), *url))
        case [b"group", name, threshold, *members] if members:
            defined.add_group(Group(name, _threshold(threshold, len(members)), tuple(members)))
        case [b"quorum", name]:
            defined.add_quorum(name)
        case _:
            raise FormatError(
                f"{_quoted(b' '.join(words)[:80])} is none of: log <vkey> [<url>], witness <name> <vkey> [<url>], "
                "group <name> all|any|<number> <name>..., quorum <name>; a comment has a line of its own"
            )


def _key(vkey: bytes) -> VerifyingKey:
    try:
        return VerifyingKey.parse(vkey.decode())
    except UnicodeDecodeError:
        raise FormatError(f"vkey: {_quoted(vkey[:80])} is not UTF-8") from None


def _threshold(word: bytes, members: int) -> int:
    if word == b"any":
        return 1
    return members if word == b"all" else decimal(word.decode("latin-1"), "threshold")


def _check_words(what: str, words: list[bytes]) -> None:
    for word in words:
        if not _WORD.fullmatch(word):
            raise FormatError(f"{what}: {_quoted(word[:80])} is not a word of a policy file: no spaces, no controls")


def _check_number(lines: list[LogLine] | list[Witness] | list[Group], what: str) -> None:
    if len(lines) > MAX_LINES:
        raise FormatError(f"more than {MAX_LINES} {what}")


def _identity(key: VerifyingKey) -> tuple[str, int]:
    return key.name, key.key_id


def _signers(opened: Note) -> set[tuple[str, int]]:
    return {(signature.name, signature.key_id) for signature in opened.signatures}


def _called(key: VerifyingKey) -> str:
    return f"{key.name}+{key.key_id:08x}"


def _given(url: bytes | None) -> Iterator[bytes]:
    if url is not None:
        yield url


def _quoted(name: bytes) -> str:
    r"""Octets in quotes, for a message: ASCII as it is, and what is not as `\xff`."""
    return repr(name)[1:]
