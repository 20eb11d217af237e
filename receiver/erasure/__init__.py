"""Taking away what was recorded, as far as that may be: erasure, retention, and the holds that stand against both."""
