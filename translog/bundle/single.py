"""One event's two lines, whatever they look like, held against its leaf.

Every line can be read here; `plain` takes most of them together, and what it cannot show to be right comes here, to be
found right or wrong for certain, and to have its fault named.
"""

import re
from typing import NamedTuple

from translog.bundle.entries import ENTRIES
from translog.bundle.joining import STATES
from translog.bundle.leaves import Read
from translog.bundle.lines import stated_index
from translog.bundle.openings import AS_DELIVERY, AS_EVENT, NOTHING, Told, check_delivery, committed, read_event
from translog.bundle.plain import NUMBER
from translog.errors import FormatError

__all__ = ["Said", "check_event", "check_payload"]

_SALT = rb"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="  # 32 bytes in canonical base64
_STANDS = rb'"stands":\{"cross_check":(?:null|"([a-z]+)"),"entry":(?:null|(%b))\}\}' % NUMBER
_END = re.compile(rb',"salt":"(%b)",%b' % (_SALT, _STANDS))
_ERASED = re.compile(
    rb'\{"erased":true,"erased_by":(%b),"event":null,"index":(%b),"leaf":(\{.*\}),"salt":null,%b'
    % (NUMBER, NUMBER, _STANDS),
    re.DOTALL,
)
_SHOWN, _DELIVERY = b'{"erased":false,"erased_by":null,"event":', b'{"delivery":'
_PAYLOAD_END = re.compile(rb'"(%b)"\}' % _SALT)
_TOMBSTONE = re.compile(rb'\{"delivery":null,"erased_by":(%b),"index":(%b),"salt":null\}' % (NUMBER, NUMBER))


class Said(NamedTuple):
    """What an event's own line says besides its leaf.

    What it tells; by which entry it was erased; the state of its cross-check, empty without one, and the entry of that.
    """

    told: Told
    erased_by: int | None
    state: bytes
    entry: int | None


def check_event(index: int, leaf: Read, line: bytes) -> Said:
    """What the line says, if it is that of the event. Raises `FormatError` if it is not."""
    if line.startswith(_SHOWN):
        middle = b',"index":%d,"leaf":%b' % (index, leaf.data)
        at = line.rfind(middle)
        match = _END.fullmatch(line, at + len(middle)) if at >= 0 else None
        if match is not None:
            data = line[len(_SHOWN) : at]
            salt, state, entry = match.groups(b"")
            if committed(salt, AS_EVENT, data) != leaf.event:
                raise FormatError("the event and the salt do not give the commitment in the leaf: it was changed")
            return Said(read_event(data), None, *_stands(state, entry))
    elif match := _ERASED.fullmatch(line):
        by, stated, its_leaf, state, entry = match.groups(b"")
        if stated == b"%d" % index and its_leaf == leaf.data:
            return Said(NOTHING, int(by), *_stands(state, entry))
    raise FormatError(_difference(line, index, leaf.data))


def check_payload(index: int, leaf: Read, line: bytes) -> int | None:
    """The erasure that a payload's line names, None if it is shown. Raises `FormatError` if it is not the line."""
    if line.startswith(_DELIVERY):
        middle = b',"erased_by":null,"index":%d,"salt":' % index
        at = line.rfind(middle)
        match = _PAYLOAD_END.fullmatch(line, at + len(middle)) if at >= 0 else None
        if match is not None:
            data = line[len(_DELIVERY) : at]
            if committed(match[1], AS_DELIVERY, data) != leaf.delivery:
                raise FormatError(
                    "the body, headers and salt do not give the commitment in the leaf: they were changed"
                )
            check_delivery(data)
            return None
    match = _TOMBSTONE.fullmatch(line)
    if match is not None and match[2] == b"%d" % index:
        return int(match[1])
    raise FormatError(_difference(line, index, None))


def _stands(state: bytes, entry: bytes) -> tuple[bytes, int | None]:
    if not state and not entry:
        return b"", None
    if state not in STATES or not entry:
        raise FormatError("how it stands is not said as in a bundle")
    return state, int(entry)


def _difference(line: bytes, index: int, leaf: bytes | None) -> str:
    """What is wrong with a line that is not the one of the entry at that index."""
    stated = stated_index(line)
    if stated is None:
        return "it is no JSON object with an index"
    if stated != index:
        return f"here belongs the event of entry {index}, and there is entry {stated}: left out, added or swapped"
    if leaf is not None and leaf not in line:
        return f"its leaf is not entry {index} of {ENTRIES}"
    return "it is not the one line that there can be of this event: another spelling, or other members"
