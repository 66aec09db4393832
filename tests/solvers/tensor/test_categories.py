import re

import numpy as np
import pytest

from kronax.solvers.tensor.categories import categories, cutoffs_of, frequencies, require_entries

CUTOFFS = (-2.0, -1.0, 1.0, 2.0)


def test_borders_belong_to_the_inner_category():
    values = np.array([-3.0, -2.0, -1.5, -1.0, 0.0, 1.0, 1.5, 2.0, 3.0, np.nan])
    np.testing.assert_array_equal(categories(values, CUTOFFS), [-2, -1, -1, 0, 0, 0, 1, 1, 2, 0])


def test_default_cutoffs_leave_eight_per_cent_outside(rng):
    values = rng.standard_t(3, size=(200, 4, 100))
    values[0] = np.nan
    share = frequencies(values, cutoffs_of(values))
    assert share.sum() == pytest.approx(1.0)
    assert share[2] == pytest.approx(0.92, abs=1e-3)
    assert share[0] + share[4] == pytest.approx(5e-4, abs=1e-4)


def test_empty_categories_are_named():
    share = frequencies(np.array([-1.5, 0.0, 1.5, 2.5]), CUTOFFS)
    with pytest.raises(ValueError, match="category -2 with the cut-offs -2, -1, 1, 2"):
        require_entries(share, CUTOFFS, given=True)


def test_too_small_for_the_default_cutoffs(rng):
    values = rng.normal(size=300)
    chosen = cutoffs_of(values)
    with pytest.raises(ValueError, match="category .*2 with the default cut-offs .*too few entries") as refused:
        require_entries(frequencies(values, chosen), chosen, given=False)
    assert "give none" not in str(refused.value)
    (remedy,) = re.findall("such as `(.*)`, or", str(refused.value))
    chosen = eval(remedy)
    require_entries(frequencies(values, chosen), chosen, given=True)
