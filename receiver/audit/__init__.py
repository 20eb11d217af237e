"""What auditors ask: events, items, proofs, and the log itself."""
