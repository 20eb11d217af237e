"""`README.txt` of a bundle: what each file is, how to verify them, and where the key must come from.

Plain text of at most 72 columns, the same in every bundle: what is true of one bundle only stands in its manifest and
in its report, which is made from the same numbers.
"""

README = b"""\
An export of Rescind
====================

What this log recorded of a period: notices that something issued was
taken back (a receipt revoked, a badge revoked, points cancelled, a
redemption reversed), and what proves that none of them was changed or
left out. Start with REPORT.html; it opens in any browser, without a
network. The events themselves are in events.jsonl.


To verify it
------------

You need the log's key (its "vkey", one line). Get it from the log's
operator by another way than this file, or from where you kept it the
last time. A key that comes with the evidence proves nothing.

With the project's own command, Python 3.11 or later:

    translog verify BUNDLE.zip --key "$VKEY"

With the script in here, which needs no more than Python 3.11 and the
package "cryptography", and nothing of Rescind:

    unzip BUNDLE.zip verify.py
    sha256sum verify.py
    python3 verify.py BUNDLE.zip --key "$VKEY"

verify.py alone proves nothing: it came with what it is to judge, and
whoever made up the one could have made up the other. So compare its
SHA-256 with the one that the project publishes in its documentation
(docs/verify.md of the version that manifest.json names as "software"),
or take the script from there, or read it: it is one file, written to
be read.

Neither uses a network. Both say the same: exit status 0, and what was
shown; or 1, and the first file, event or index that is wrong; or 2 if
they were called wrongly. Verify the file as it was downloaded, not one
that was unpacked and packed again.


What is in it
-------------

manifest.json        what was asked for, the counts, and the SHA-256 of
                     every other file but the next
manifest.json.note   signed by the log's key for exports
events.jsonl         the events, one a line: the authority. Each with
                     its leaf, the entry of the log, and the salt that
                     ties it to that
events.csv           the same for spreadsheets. A text that a
                     spreadsheet would take for a formula has a ' put
                     before it
events.parquet       the same for databases, if it was asked for
payloads/            the deliveries as they came: the raw bodies in
                     base64, and the headers that authenticate them
entries.bin          all entries of the log in the range, each after its
                     length in two bytes
proof/               what ties these to a checkpoint that the log signed
tallies.json         what came, counted by source and day; the hours
                     that nobody counted; what the period cuts off
REPORT.html          all of this in a page that can be printed
verify.py            checks all of this

What each of them holds byte by byte is in docs/export-format.md of the
project. An event that was erased is still there, with its leaf and its
index, and with null in place of what it said.


To read the events
------------------

With jq, without unpacking anything:

    unzip -p BUNDLE.zip events.jsonl > events.jsonl

how many there are of each effect:

    jq -r '.leaf.facts.effect // "none"' events.jsonl | sort | uniq -c

when, what and which item, as tab-separated values:

    jq -r 'select(.erased | not) | [.leaf.logged_at,
      .leaf.facts.event, .event.item.type, .event.item.id] | @tsv' \\
      events.jsonl

those that break a rule of the provider:

    jq -c 'select(.leaf.facts.breaches // [] | length > 0)' events.jsonl

those that the issuer's log, or the provider's record, denies or lacks:

    jq -c 'select(.stands.cross_check == "contradicted"
      or .stands.cross_check == "absent")' events.jsonl

the body of the event with the index 1042, as it came:

    unzip -p BUNDLE.zip 'payloads/*' | jq -r 'select(.index == 1042)
      | .delivery.body' | base64 -d


What it does not show
---------------------

It is complete as to what Rescind recorded; complete as to what the
provider did only where cross-checked. Without witnesses an operator
could still show two auditors two logs, or backdate: compare the size
and the root of the checkpoint with those that others were shown, and
keep proof/checkpoint, for every later one must continue it. If
manifest.json says "subset", events that were not asked for are not in
here, and nothing is shown of them. A log that succeeds another one,
which was closed after a loss, says so in its first entry: what that
other one holds is not in here. REPORT.html names it, and so does
whatever verifies this, if the period reaches back to where the log
began.
"""
"""ASCII, with newlines only."""
