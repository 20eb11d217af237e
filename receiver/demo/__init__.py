"""`receiver demo`: a revocation notice on its way from delivery to proof, each step of it checked."""
