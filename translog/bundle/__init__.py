"""Export bundles, verified offline: everything in the ZIP, against nothing but the log's key.

    verified = verify(Path("export.zip"), Policy.of(vkey))     raises BundleError for the first thing that is wrong

What a bundle is, byte by byte, is laid down in `docs/export-format.md`. `archive` reads the ZIP, `proofs` goes from the
key to the manifest, `files` says what must be there. `entries` cuts the leaves into chunks; `chunks` checks one: which
leaves are events (`leaves`, `choosing`), and their lines, many at once or one by one (`lines`, `plain`, `single`,
`openings`), of which `sums` and `rows` tell; and `work` has that done by several processes. `joining`
compares what far leaves say of events, `later` and `proofs` prove those that are not in the range; `counting`,
`tallies` and `parquet` (by `pages`) work out once more what is only told again. `verification` is the order of it all.

Nothing here imports more than the standard library and `cryptography`; and `pyarrow`, for one optional file, if it is
installed.
"""

from translog.bundle.verification import Verified, verify
from translog.errors import BundleError

__all__ = ["BundleError", "Verified", "verify"]
