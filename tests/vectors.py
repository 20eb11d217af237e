"""Where the test vectors of other projects are, and the mark that skips the tests that need them."""

from pathlib import Path

import pytest

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "vectors"

needs_vectors = pytest.mark.skipif(
    not VECTORS.is_dir(),
    reason=f"the test vectors of other projects are not on this machine (looked for the folder {VECTORS})",
)
