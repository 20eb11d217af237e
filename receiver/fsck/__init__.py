"""`receiver fsck`: everything that is kept is derived again from the entries, and compared.

report = fsck(Records.inspect(settings))

`tree` derives tiles, roots and indexes from a log's entries, `rows` holds entries and rows of `deliveries` against one
another, for which `readings` opens and reads what these hold; `attempts` does the same for calls that were passed on,
`reprocessed` for what was read again out of quarantine, and `told` for the entries that tell of sources, keys, tenants
and subscriptions. `findings` does it for what was found out, `crosschecks` for what is known of events by that,
`claims` for the entries of issuers' logs that are kept, each proven to be there, and `issuers` for these logs.
`erasures` holds what was erased against the entries that name it, for all of these, and `holds` what must not be.
`marks` holds what was signed against what is derived, `check` goes through the logs, and `report` is what came of it.
Nothing is ever written, and no fault ends it.
"""

from receiver.fsck.check import fsck
from receiver.fsck.report import Finding, Report

__all__ = ["Finding", "Report", "fsck"]
