"""`translog.policy`: policy files, and every rule of C2SP tlog-policy kept and broken.

Whose signatures satisfy a policy is in `test_policy_open`.
"""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.translog.policies import KEYS, LOG, ORIGIN, ecdsa, policies, policy_file, vkey, words
from translog.errors import FormatError
from translog.note import Kind, VerifyingKey
from translog.policy import MAX_LINES, Group, LogLine, Policy, Witness

EXAMPLE = """\
log {log} https://log.example/

witness X1 {a}
witness X2 {b} https://b.example/submit
group X any X1 X2
quorum X
"""


@given(policies())
def test_both_ways(policy: Policy) -> None:
    """Whatever a policy's names, URLs and groups, it is read back from its text, and that text is its only spelling."""
    data = policy.encode()

    assert Policy.parse(data, policy.origin) == policy
    assert Policy.parse(data, policy.origin).encode() == data
    assert policy.text.encode(errors="surrogateescape") == data
    assert str(policy) == policy.text


def test_the_text() -> None:
    """Logs, witnesses, groups and quorum, a line each, with single spaces; thresholds as words where there are some."""
    noisy = policy_file(
        "# what we trust\n"
        " quorum\tnone \n"
        "witness a {a} https://a.example/\n"
        "\t\n"
        "witness\t b\t{b}\n"
        "   # the third\n"
        "witness c {c}\n"
        "group three 2 a b c\n"
        "group one 1 three\n"
        "log {log}   https://log.example/   \n"
        "log {mldsa}\n"
    )
    policy = Policy.parse(noisy)

    assert policy.text.encode() == policy_file(
        "log {log} https://log.example/\n"
        "log {mldsa}\n"
        "witness a {a} https://a.example/\n"
        "witness b {b}\n"
        "witness c {c}\n"
        "group three 2 a b c\n"
        "group one all three\n"
        "quorum none\n"
    )
    assert Policy.parse(policy.text.encode()) == policy


def test_what_is_kept() -> None:
    """Keys, names, URLs, thresholds and members stand in the policy, in the order of the file."""
    policy = Policy.parse(policy_file(EXAMPLE), "another origin")

    assert policy == Policy(
        (LogLine(KEYS["log"], b"https://log.example/"),),
        (Witness(b"X1", KEYS["a"]), Witness(b"X2", KEYS["b"], b"https://b.example/submit")),
        (Group(b"X", 1, (b"X1", b"X2")),),
        b"X",
        "another origin",
    )
    assert policy.logs == (KEYS["log"],)
    assert len({policy, Policy.parse(policy_file(EXAMPLE), "another origin")}) == 1


def test_keys_alone() -> None:
    """Log keys without a file are the policy of their log lines and `quorum none`."""
    policy = Policy.of(KEYS["log"], str(KEYS["mldsa"]))

    assert policy == Policy.parse(policy_file("log {log}\nlog {mldsa}\nquorum none\n"))
    assert policy.text.encode() == policy_file("log {log}\nlog {mldsa}\nquorum none\n")


blanks = st.text(" \t", min_size=1, max_size=3).map(str.encode)
ignored = st.one_of(st.just(b""), blanks, st.tuples(st.just(b"") | blanks, words).map(b"#".join))


@given(policies(), st.data())
def test_what_makes_no_difference(policy: Policy, data: st.DataObject) -> None:
    """Spaces and tabs around and between words, empty lines, comments, and where the logs and the quorum stand."""
    lines = policy.encode().splitlines(keepends=False)
    logs, rest = lines[: len(policy.logs)], lines[len(policy.logs) :]
    turn = data.draw(st.integers(0, len(rest)))
    noisy: list[bytes] = []
    for line in (*rest[:turn], *logs, *rest[turn:]):
        separators = data.draw(st.lists(blanks, min_size=line.count(b" "), max_size=line.count(b" ")))
        first, *others = line.split(b" ")
        spread = first + b"".join(blank + word for blank, word in zip(separators, others, strict=True))
        noisy += [data.draw(ignored), data.draw(st.just(b"") | blanks) + spread + data.draw(st.just(b"") | blanks)]

    assert Policy.parse(b"".join(line + b"\n" for line in noisy), policy.origin) == policy


@pytest.mark.parametrize(
    "text",
    [
        "log {log}\nquorum none\n",
        "quorum none\nlog {log}\n",
        "log {log}\nwitness a {a}\nquorum none\n",
        "log {log}\nwitness a {a}\nquorum a\n",
        "quorum none\nwitness a {a}\nlog {log}\n",
        "witness a {a}\nquorum a\nwitness b {b}\nlog {log}\ngroup late all a b\n",
        "log {log}\nwitness all {a}\nwitness any {b}\nwitness 2 {c}\ngroup group 2 any all 2\nquorum group\n",
        "log {log}\nwitness log {a}\nwitness witness {b}\ngroup quorum all witness\nquorum quorum\n",
        "log {log}\nwitness None {a}\nquorum None\n",
        "log {log}\nwitness #a {a}\nquorum #a\n",
        "log {log}\nwitness a {a}\nwitness A {b}\nquorum A\n",
        "log {log} #not-a-comment-but-a-URL\nquorum none\n",
        "log {log}\nlog {other}\nlog {ecdsa}\nlog {mldsa}\nquorum none\n",
        "log {head}\nwitness a {a}\nwitness c {c}\ngroup both all a c\nquorum both\n",
        "log {mldsa}\nwitness itself {mldsa}\nquorum itself\n",
        "log {log}\nwitness a {a}\ngroup g all a\ngroup h any g\ngroup i 1 h\nquorum i\n",
        "log {log}\nwitness a {a}\nwitness b {b}\ngroup g all a\nquorum a\n",
        "log {log}\nwitness a {a}\nwitness b {b}\nwitness c {c}\ngroup g 3 a b c\nquorum g\n",
    ],
)
def test_files_that_are_well(text: str) -> None:
    """Lines in any order that defines before it uses; keywords are names, too; every kind of key where it belongs."""
    policy = Policy.parse(policy_file(text))

    assert Policy.parse(policy.encode()) == policy


BAD = [
    ("", 0, "no quorum line; where no witness is asked for, write: quorum none"),
    ("log {log}\n# quorum none\n", 0, "no quorum line"),
    ("quorum none\n", 0, "no log key was given, .*a policy file needs a log line"),
    ("witness a {a}\nquorum a\n", 0, "no log key was given"),
    ("log {log}\nquorum none", 2, "no newline at its end"),
    ("log {log}\nquorum none\n# cut", 3, "no newline at its end"),
    ("log {log}\nquorum none\n ", 3, "no newline at its end"),
    ("log {log}\nquorum none\nquorum none\n", 3, "a second quorum line"),
    ("log {log}\nwitness a {a}\nquorum a\n\nquorum none\n", 5, "a second quorum line"),
    ("log {log}\nquorum a\n", 2, "quorum: no line before it defines 'a'"),
    ("log {log}\nquorum a\nwitness a {a}\n", 2, "quorum: no line before it defines 'a'"),
    ("log {log}\nwitness a {a}\nquorum A\n", 3, "quorum: no line before it defines 'A'"),
    ("log {log}\nwitness a {a}\nquorum a.example\n", 3, "quorum: no line before it defines 'a.example'"),
    ("log {log}\nquorum all\n", 2, "quorum: no line before it defines 'all'"),
    ("log {log}\nquorum\n", 2, "'quorum' is none of: log <vkey>"),
    ("log {log}\nwitness a {a}\nquorum a a\n", 3, "'quorum a a' is none of"),
    ("log {log}\nwitness a {a}\nquorum all a\n", 3, "'quorum all a' is none of"),
    ("\ufefflog {log}\nquorum none\n", 1, r"'\\xef\\xbb\\xbflog .*is none of"),
    ("LOG {log}\nquorum none\n", 1, "'LOG .*is none of"),
    ("logs {log}\n", 1, "'logs .*is none of"),
    ("log\n", 1, "'log' is none of"),
    ("log {log} https://log.example/ #here\n", 1, ".*is none of: .*; a comment has a line of its own"),
    ("log log {log}\n", 1, "vkey: 'log' is not of the form"),
    ("log {log}=\n", 1, "vkey: .* is not canonical standard base64"),
    ("log renamed{log}\n", 1, "vkey: .* has the ID .*; was it mistyped"),
    ("log {a}\n", 1, r"log a\.example\+[0-9a-f]{8}: this is a witness's cosigning key \(type 04\), not a log's"),
    ("log {log}\n\nlog {log}\n", 3, ".*are one and the same public key .*; give each key once"),
    ("log {log}\nlog {renamed}\n", 2, "example.com/renamed and example.com/log are one and the same public key"),
    ("log {ecdsa}\nlog {head}\n", 2, ".*are one and the same public key"),
    ("witness a\n", 1, "'witness a' is none of"),
    ("witness {a}\n", 1, "'witness a.example.*is none of"),
    ("witness a {a} https://a.example/ more\n", 1, "'witness a a.example.*is none of"),
    ("witness none {a}\n", 1, "the name 'none' means that no witness is asked for"),
    ("witness a {log}\n", 1, r"witness 'a': example\.com/log\+.* of type 01; witnesses have types 04 and 06"),
    ("witness a {ecdsa}\n", 1, "witness 'a': .* of type 02"),
    ("witness a {head}\n", 1, "witness 'a': .* of type 05"),
    ("witness a {a}\nwitness b {a}\n", 2, ".*are one and the same public key"),
    ("witness a {a}\nwitness b {renamed_a}\n", 2, "elsewhere.example and a.example are one and the same public"),
    ("witness a {c}\nwitness b {renamed_c}\n", 2, "elsewhere.example and c.example are one and the same public"),
    ("witness a {a}\nwitness a {b}\n", 2, "the name 'a' is already defined; witnesses and groups share"),
    ("witness a {a}\ngroup a all a\n", 2, "the name 'a' is already defined"),
    ("witness a {a}\nwitness b {b}\ngroup g all a\nwitness g {c}\n", 4, "the name 'g' is already defined"),
    ("witness a {a}\nwitness b {b}\ngroup g all a\ngroup g all b\n", 4, "the name 'g' is already defined"),
    ("witness a {a}\ngroup none all a\n", 2, "the name 'none' means"),
    ("witness a {a}\ngroup g all b\nwitness b {b}\n", 2, "group 'g': no line before it defines its member 'b'"),
    ("witness a {a}\ngroup g any a none\n", 2, "group 'g': no line before it defines its member 'none'"),
    ("group g any g\n", 1, "group 'g': no line before it defines its member 'g'"),
    ("witness a {a}\ngroup g any a h\ngroup h any g\n", 2, "group 'g': no line before it defines its member 'h'"),
    ("witness a {a}\ngroup g any a a\n", 2, "group 'g': 'a' is already a member; each name is in one group, once"),
    ("witness a {a}\ngroup g all a\ngroup h all a\n", 3, "group 'h': 'a' is already a member"),
    ("witness a {a}\ngroup g all a\ngroup h all g\ngroup i all g\n", 4, "group 'i': 'g' is already a member"),
    ("witness a {a}\ngroup g all a\ngroup h any a g\n", 3, "group 'h': 'a' is already a member"),
    ("group g\n", 1, "'group g' is none of"),
    ("group g all\n", 1, "'group g all' is none of"),
    ("group g 1\n", 1, "'group g 1' is none of"),
    ("witness a {a}\ngroup g a\n", 2, "'group g a' is none of"),
    ("witness a {a}\ngroup g 0 a\n", 2, "group 'g': a threshold of 0 for 1 members"),
    ("witness a {a}\ngroup g 2 a\n", 2, "group 'g': a threshold of 2 for 1 members"),
    *(
        ("witness a {a}\ngroup g " + threshold + " a\n", 2, "threshold: .* is not a decimal number")
        for threshold in ("-1", "+1", "01", "1_0", "1.0", "0x1", "1st", "\u0661", "\u00b9", "ALL", "a", "1" * 5_000)
    ),
]


@pytest.mark.parametrize(("text", "line", "reason"), BAD)
def test_files_that_are_not(text: str, line: int, reason: str) -> None:
    """Each rule that a file breaks is named, with the line in which it does; 0 is the file as a whole."""
    with pytest.raises(FormatError, match=f"^policy{f', line {line}' if line else ''}: {reason}"):
        Policy.parse(policy_file(text))


def test_a_file_that_was_cut_is_no_policy() -> None:
    """However many octets are missing at the end: what is left does not pass for a weaker policy."""
    whole = policy_file(EXAMPLE)
    for length in range(len(whole)):
        with pytest.raises(FormatError):
            Policy.parse(whole[:length])


class TestOctets:
    """A policy file is octets: those of ASCII mean what they mean there, those above stand for themselves."""

    def test_the_character_set(self) -> None:
        """Tab, newline, 20 to 7E and 80 to FF may stand in a file, and any other octet is refused, with its line."""
        for octet in range(256):
            data = policy_file("log {log}\nquorum none\n# ") + bytes((octet,)) + b"\n"
            if octet in {0x09, 0x0A} or 0x20 <= octet <= 0x7E or octet >= 0x80:
                assert Policy.parse(data).logs == (KEYS["log"],)
            else:
                with pytest.raises(FormatError, match=f"^policy, line 3: the octet {octet:02x} is not allowed"):
                    Policy.parse(data)

    def test_line_ends_of_other_systems(self) -> None:
        """A carriage return is no line end and no space."""
        with pytest.raises(FormatError, match="line 1: the octet 0d is not allowed"):
            Policy.parse(policy_file(EXAMPLE).replace(b"\n", b"\r\n"))

    @pytest.mark.parametrize("space", [b"\xc2\xa0", b"\xe2\x80\xa8", b"\xc2\x85", b"\x85", b"\xa0", b"\xe3\x80\x80"])
    def test_only_ascii_separates(self, space: bytes) -> None:
        """What Unicode calls a space, or a line end, is a part of the name or the URL it stands in."""
        name = b"a" + space + b"b"
        data = b"log %s u%sv\nwitness %s %s\nquorum %s\n"
        policy = Policy.parse(data % (str(KEYS["log"]).encode(), space, name, str(KEYS["a"]).encode(), name))

        assert policy.witnesses[0].name == policy.quorum == name
        assert policy.log_lines[0].url == b"u" + space + b"v"

    @pytest.mark.parametrize("other", ["\u212a".encode(), b"k", b"\xff", "K\u0308".encode()])
    def test_names_are_compared_by_octets(self, other: bytes) -> None:
        """The letter K is not the Kelvin sign, and nothing is folded or composed."""
        data = policy_file("log {log}\nwitness K {a}\nwitness ") + other + policy_file(" {b}\ngroup g all K ") + other
        policy = Policy.parse(data + b"\nquorum g\n")

        assert policy.groups == (Group(b"g", 2, (b"K", other)),)
        with pytest.raises(FormatError, match=re.escape(f"quorum: no line before it defines {repr(other)[1:]}")):
            Policy.parse(policy_file("log {log}\nwitness K {a}\nquorum ") + other + b"\n")

    def test_a_vkey_is_utf_8(self) -> None:
        """As notes are; its name may be of any letters that a note allows."""
        key = vkey("\u00fcber.example")
        policy = Policy.parse(policy_file("log {log}\nwitness a ") + str(key).encode() + b"\nquorum a\n")
        assert policy.witnesses[0].key == key
        with pytest.raises(FormatError, match=r"^policy, line 2: vkey: 'a\\xff' is not UTF-8"):
            Policy.parse(policy_file("log {log}\nwitness a a") + b"\xff\nquorum a\n")

    def test_the_text_of_names_that_are_not_utf_8(self) -> None:
        """It holds them as lone surrogates, and gives the octets back with `surrogateescape`."""
        policy = Policy((LogLine(KEYS["log"]),), (Witness(b"\xff", KEYS["a"]),), quorum=b"\xff")
        assert policy.text.endswith("quorum \udcff\n")
        assert Policy.parse(policy.text.encode(errors="surrogateescape")) == policy


class TestLimits:
    """Sixty-four logs, witnesses and groups: twice what C2SP asks for."""

    LOGS = "".join(f"log {vkey(f'log{number}.example', Kind.ED25519)}\n" for number in range(MAX_LINES + 1))
    WITNESSES = "".join(f"witness w{number} {vkey(f'w{number}.example')}\n" for number in range(MAX_LINES + 1))
    GROUPS = "".join(f"group g{number} all w{number}\n" for number in range(MAX_LINES))

    @staticmethod
    def first(text: str, number: int) -> str:
        return "".join(text.splitlines(keepends=True)[:number])

    def test_as_many_as_there_may_be(self) -> None:
        """The largest policy is read back, also as one deep chain of groups."""
        lines = self.first(self.LOGS, 64) + self.first(self.WITNESSES, 64)
        policy = Policy.parse((lines + self.GROUPS + "quorum g63\n").encode())
        assert MAX_LINES == 64 == len(policy.logs) == len(policy.witnesses) == len(policy.groups)
        chain = "group g0 all w0\n" + "".join(f"group g{n} all g{n - 1} w{n}\n" for n in range(1, 64))
        policy = Policy.parse((lines + chain + "quorum g63\n").encode())
        everyone = {witness.name for witness in policy.witnesses}
        assert policy.met_by(everyone)
        assert not policy.met_by(everyone - {b"w0"})

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (LOGS, "^policy, line 65: more than 64 logs"),
            (WITNESSES, "^policy, line 65: more than 64 witnesses"),
            (
                WITNESSES[: WITNESSES.index("witness w64")] + GROUPS + "group h all g0\n",
                "line 129: more than 64 groups",
            ),
        ],
    )
    def test_one_more(self, text: str, reason: str) -> None:
        """The line that is too much is named."""
        with pytest.raises(FormatError, match=reason):
            Policy.parse(text.encode())


def small(y: int, kind: Kind = Kind.ED25519) -> VerifyingKey:
    """A key of the log's name whose point has this y."""
    return VerifyingKey(ORIGIN, kind, y.to_bytes(32, "little"))


@pytest.mark.parametrize(
    ("one", "other"), [(small(84_795), small(96_703)), (small(77_434), small(90_849, Kind.COSIGNATURE))]
)
def test_two_keys_of_one_name_and_id(one: VerifyingKey, other: VerifyingKey) -> None:
    """A signature would not tell which of them made it, so no policy has both (these were searched for)."""
    assert one.key_id == other.key_id
    line = b"witness w " if other.kind is Kind.COSIGNATURE else b"log "
    data = b"log %s\n%s%s\nquorum none\n" % (str(one).encode(), line, str(other).encode())

    with pytest.raises(FormatError, match=rf"^policy, line 2: two different keys are called {ORIGIN}\+[0-9a-f]{{8}};"):
        Policy.parse(data)


LINE, A = LogLine(KEYS["log"]), Witness(b"a", KEYS["a"])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"log_lines": ()}, "policy: no log key was given"),
        ({"log_lines": (LINE, LINE)}, "one and the same public key"),
        ({"witnesses": (A, Witness(b"b", KEYS["a"]))}, "one and the same public key"),
        ({"witnesses": (A, Witness(b"a", KEYS["b"]))}, "the name 'a' is already defined"),
        ({"groups": (Group(b"g", 1, (b"a",)),)}, "group 'g': no line before it defines its member 'a'"),
        ({"witnesses": (A,), "groups": (Group(b"g", 1, (b"a", b"a")),)}, "'a' is already a member"),
        ({"quorum": b"a"}, "quorum: no line before it defines 'a'"),
        ({"origin": ""}, "checkpoint: the origin and each extension is one line"),
        ({"origin": "one\ntwo"}, "checkpoint: the origin and each extension is one line"),
    ],
)
def test_policies_that_no_file_made(fields: dict[str, Any], reason: str) -> None:
    """The rules hold for a policy that a program puts together, as well."""
    whole: dict[str, Any] = {"log_lines": (LINE,), **fields}
    with pytest.raises(FormatError, match=reason):
        Policy(**whole)


def test_every_policy_has_a_text() -> None:
    """Names and URLs are words of a file: not empty, no spaces, no controls; also the names of keys."""
    for word in (b"", b"a b", b"a\tb", b"a\n", b"\0", b"\x7f", b"\r"):
        with pytest.raises(FormatError, match="is not a word of a policy file"):
            Witness(word, KEYS["a"])
        with pytest.raises(FormatError, match="is not a word of a policy file"):
            Witness(b"a", KEYS["a"], word)
        with pytest.raises(FormatError, match="is not a word of a policy file"):
            LogLine(KEYS["log"], word)
        with pytest.raises(FormatError, match="is not a word of a policy file"):
            Group(b"g", 1, (word,))
    for key in (vkey("a\x7f", Kind.ED25519), ecdsa("a\x7f", Kind.ECDSA)):
        with pytest.raises(FormatError, match="is not a word of a policy file"):
            Policy.of(key)


def test_a_group_can_be_met() -> None:
    """By at least one member, and by no more than it has."""
    for threshold, members in ((0, (b"a",)), (2, (b"a",)), (-1, (b"a",)), (0, ()), (1, ())):
        with pytest.raises(FormatError, match=f"group 'g': a threshold of {threshold} for {len(members)} members"):
            Group(b"g", threshold, members)


def test_no_secret_is_quoted() -> None:
    """A private key in place of a vkey is refused, and the message does not repeat it."""
    with pytest.raises(FormatError, match="line 1: vkey: this is a private key; keep it secret") as raised:
        Policy.parse(f"log {LOG}\nquorum none\n".encode())
    assert str(LOG)[-20:] not in str(raised.value)
