"""A transparency log as a library: RFC 6962 trees, C2SP tiles, notes, checkpoints and proofs, and the writer.

The modules without I/O (`merkle`, `tiles`, `note`, `checkpoint`, `policy`, `proof`, `canonical`, `evidence`) need the
standard library and `cryptography` only; `log`, `store` and `guard` are the writer.
"""
