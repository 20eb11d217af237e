"""A transparency log as a library: RFC 6962 trees, C2SP tiles, notes, checkpoints, policies, proofs; writer and reader.

Without I/O, and with the standard library and `cryptography` only: `merkle`, `tiles`, `note`, `checkpoint`, `policy`,
`proof`, `fork`, `canonical`, `evidence`, `issuer`, `lookup`, and `follower`, the state machine of whoever reads a log.
The writer is `log`, with `store` and `guard`. The reader is `remote`, which gives the follower what it asks for; of all
modules only `fetching` speaks HTTP, and needs the extra `reader`. `bundle` verifies exports, and reads only their
file. `cli` is the command.
"""
