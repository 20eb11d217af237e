"""`translog verify` of an export bundle: what it shows of a period, and what it does not, in words to be quoted."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from translog import bundle
from translog.bundle import Verified
from translog.canonical import Value
from translog.cli.claims import LOG_AND_KEY, SEEN_BY_ALL, SEEN_BY_WITNESSES, witnessed
from translog.cli.telling import checkpoint_rows, paragraphs, table, words
from translog.cli.verifying import cosigners
from translog.errors import FormatError
from translog.policy import Policy

__all__ = ["verify"]

_COUNTED = (
    ("of provider", "by_provider"),
    ("effect", "by_effect"),
    ("cross-check", "by_cross_check"),
    ("breach", "by_breach"),
)


def verify(path: str, policy: Policy, issuer_policy: Policy | None = None) -> str:
    """What the bundle at `path` shows under `policy`, and what not. Raises as `translog.bundle.verify` does.

    Raises `FormatError` with a policy for an issuer's log, of which a bundle has no proofs.
    """
    if issuer_policy is not None:
        raise FormatError(
            "an export bundle has no proofs of an issuer's own: give the log's key by --key, and no other"
        )
    verified = bundle.verify(Path(path), policy, os.cpu_count() or 1)
    return "\n".join(
        (
            f"VERIFIED: {_verdict(verified)}",
            "",
            "The log:",
            table((*checkpoint_rows(verified.checkpoint), *cosigners(verified.signed, policy))),
            "The export:",
            table(_export_rows(verified)),
            "What is in it:",
            table(_count_rows(verified)),
            "",
            "What this shows:",
            paragraphs(_shown(verified, policy)),
            "",
            "What this does not show:",
            paragraphs(_not_shown(verified, policy)),
        )
    )


def _verdict(verified: Verified) -> str:
    if verified.manifest.population == "subset":
        return "this export is unchanged. It is a subset: what it shows and what it does not is below."
    but = "" if verified.manifest.question.tests else ", test sources left out"
    if not verified.manifest.counts["events"]:
        return f"this export is complete and unchanged: the log has no event of its period{but}."
    return f"this export is complete and unchanged: it has every event of its period that the log has{but}."


# ---- tables ---------------------------------------------------------------------------------------------------------


def _export_rows(verified: Verified) -> Iterator[tuple[str, str]]:
    manifest, question = verified.manifest, verified.manifest.question
    yield "export", manifest.export
    yield "asked", f"{manifest.asked_at}, by {manifest.asked_by}; entry {manifest.entry} of the log"
    yield "period", f"{question.since} up to, and without, {question.until}"
    yield "basis", f"when an event {'occurred' if question.basis == 'occurred' else f'was {question.basis}'}"
    yield "providers", "all" if question.providers is None else ", ".join(question.providers)
    yield "tests", "among the events" if question.tests else "left out"
    yield "population", manifest.population
    yield "entries", f"{manifest.start} to {manifest.end - 1}, {manifest.end - manifest.start} in all"
    yield "exports key", str(verified.exports_key)


def _count_rows(verified: Verified) -> Iterator[tuple[str, str]]:
    counts, exclusions = verified.manifest.counts, verified.manifest.exclusions
    yield "events", words(counts["events"])
    if verified.manifest.question.basis != "logged":
        yield "late arrivals", f"{words(counts['late'])}, logged after the period"
    yield "erased", f"{words(counts['erased'])}, of which only the entry is left"
    for label, name in _COUNTED:
        yield label, _listed(cast("dict[str, Value]", counts[name]))
    yield "not in it", _listed({name.replace("_", " "): number for name, number in exclusions.items() if number})
    days = cast("list[dict[str, Value]]", verified.tallies["days"])
    yield "deliveries", f"{sum(cast('int', day['deliveries']) for day in days)}, by the tallies of the period"
    yield "uncounted", f"{len(cast('list[Value]', verified.tallies['gaps']))} stretches of hours without a whole tally"


def _listed(numbers: Mapping[str, Value]) -> str:
    return ", ".join(f"{name} {words(number)}" for name, number in sorted(numbers.items())) or "none"


# ---- sentences ------------------------------------------------------------------------------------------------------


def _shown(verified: Verified, policy: Policy) -> Iterator[str]:
    manifest, question, checkpoint = verified.manifest, verified.manifest.question, verified.checkpoint
    yield (
        f"The log {checkpoint.origin} signed a checkpoint of {checkpoint.size} entries. Those from {manifest.start} to "
        f"{manifest.end - 1} are here, each as it was logged, and none is missing among them."
    )
    number = manifest.counts["events"]
    which = "" if question.providers is None else f" of {', '.join(question.providers)}"
    if question.basis == "occurred":
        yield f"Each of the {number} events here{which} says that it occurred in the period, or was erased."
    elif question.basis == "received":
        yield (
            f"Every event{which} that was received in the period, and was logged before the export was asked for, is "
            f"here: {number} in all. None was left out, added or changed."
        )
    else:
        yield (
            f"Every event{which} that was logged in the period is here: {number} in all. None was left out, added or "
            "changed."
        )
    yield (
        "What is shown of an event is, byte for byte, what the log committed to when it was logged. Where something "
        "was erased since, the log has an entry that says so."
    )
    yield "The question stands in the log itself. Everything that is counted was counted again."
    if manifest.previous is not None:
        yield (
            f"The log has only grown since the export before this one, whose checkpoint had {manifest.previous[0]} "
            "entries."
        )
    if witnessed(policy):
        yield "The witnesses that the policy asks for cosigned the checkpoint."


def _not_shown(verified: Verified, policy: Policy) -> Iterator[str]:
    manifest, question = verified.manifest, verified.manifest.question
    yield (
        "That nothing else happened. It is complete as to what Rescind recorded; complete as to what the provider did "
        "only where cross-checked."
    )
    for one in verified.predecessors:
        yield one.sentence
    if not question.tests:
        yield "What test sources were sent: it was left out, as was asked."
    if question.providers is not None:
        yield f"Anything of other providers than {', '.join(question.providers)}."
    if question.basis == "occurred":
        yield (
            "That the events which are not here occurred at another time. When they did stands only in what is not "
            "shown of them: that is the operator's word."
        )
    yield (
        "That a cross-check is right: the operator compared an event with the issuer's log, or the provider's own "
        "record, and recorded what it found."
    )
    yield (
        f"What the log says of these events from entry {manifest.end} on, but for what the bundle names: later "
        "cross-checks, and erasures."
    )
    yield (
        "Who made each notice. Most are authenticated by a secret that provider and operator share: that convinces the "
        "operator alone."
    )
    if verified.tallies["gaps"]:
        yield "What came in the hours that no tally covers."
    yield (
        "That REPORT.html, README.txt and verify.py are right: they are as the operator signed them, and no more was "
        "checked. So it is with the tenant's name, and with the events outside of the bundle that `cut_off` counts."
    )
    if verified.parquet is False:
        yield "That events.parquet says the same: `pyarrow` is not installed, so only its hash was compared."
    yield SEEN_BY_WITNESSES if witnessed(policy) else SEEN_BY_ALL
    yield (
        "That nothing was left out before it was logged. Only the acknowledgement, the issuer's log and the provider's "
        "own records reveal that."
    )
    yield LOG_AND_KEY
