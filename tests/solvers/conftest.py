"""What the tests of the solvers share."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture
def x64() -> Iterator[None]:
    """Run the test in double precision, as the callers of the inner solvers do."""
    with jax.enable_x64(True):
        yield
