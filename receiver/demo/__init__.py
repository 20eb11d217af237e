"""`receiver demo`: what issuers take back on its way to a receiver, and to a proof; each step checked."""
