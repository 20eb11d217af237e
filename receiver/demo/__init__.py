"""`receiver demo`: what is taken back at five issuers on its way to a receiver, and to a proof; each step checked."""
