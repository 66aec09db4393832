"""What is told about values and names that can be used nevertheless."""

import re
import warnings

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

import kronax as kx
from kronax._data import tensor as tensors

DRUGS = [f"drug{i}" for i in range(8)]


def together(values, genes=None, drugs=DRUGS) -> mudata.MuData:
    """Contexts × treatments × genes."""
    genes = [[f"gene{g}" for g in range(x.shape[1])] for x in values] if genes is None else genes
    with tensors.without_pulling():
        return mudata.MuData(
            {
                f"line{c}": ad.AnnData(x, pd.DataFrame(index=drugs), pd.DataFrame(index=names))
                for c, (x, names) in enumerate(zip(values, genes, strict=True))
            },
            axis=-1,
        )


FUNCTIONS = {
    "complete_tensor": lambda m: kx.tl.complete_tensor(m, method="mean_1d", copy=True),
    "cross_validate": lambda m: kx.metrics.cross_validate(m, methods="mean_1d", n_folds=2),
    "density_curve": lambda m: kx.metrics.density_curve(m, methods="mean_1d", n_repeats=1, densities=[0.5]),
    "array": lambda m: kx.get.array(m),
}


def told(function, mdata) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FUNCTIONS[function](mdata)
    found = [w for w in caught if w.category is UserWarning]
    assert {w.filename for w in found} <= {__file__}
    return [str(w.message) for w in found]


@pytest.mark.parametrize("function", list(FUNCTIONS)[:3])
def test_contexts_on_other_scales(rng, function):
    values = rng.normal(size=(3, 8, 10))
    values[0, 3] = np.nan
    assert told(function, together(values)) == told(function, together(1e200 * values)) == []
    values[1] *= 30
    (text,) = told(function, together(values))
    (factor,) = re.findall(r"differ (\d+)-fold", text)
    assert 25 <= int(factor) <= 35 and re.search(r"line[02] (0\.|1)\S*, line[02] \S+, line1 [23]\d", text)


def test_the_remedy_for_scales_runs_as_shown(rng):
    mdata = together(rng.normal(size=(3, 8, 10)) * np.array([1, 30, 1e-3])[:, None, None])
    (text,) = told("complete_tensor", mdata)
    (code,) = re.findall("`(for .*)`", text)
    exec(code, {"mdata": mdata, "np": np})
    assert told("complete_tensor", mdata) == []


@pytest.mark.parametrize("function", list(FUNCTIONS)[:3])
def test_levels_and_counts(rng, function):
    values = rng.uniform(1, 2, size=(3, 8, 10)) + rng.uniform(0, 3, size=10)
    assert any("No value is negative" in text for text in told(function, together(values)))
    assert any("as raw counts are" in text for text in told(function, together(np.rint(10 * values))))
    values[1:] -= values[1:].mean(axis=(0, 1))
    assert any(
        "No value of line0 is negative, while those of line1" in text for text in told(function, together(values))
    )


def test_positive_responses_are_no_levels(rng):
    """Absolute values and fold changes: genes differ little in their means."""
    for values in (np.abs(rng.normal(size=(3, 8, 10))), rng.lognormal(0.0, 0.5, size=(3, 8, 10))):
        assert told("complete_tensor", together(values)) == []


def test_names_that_look_alike_across_contexts(rng):
    values = rng.normal(size=(2, 8, 10))
    mdata = together(values)
    mdata.mod["line1"].obs_names = ["Drug0", "drug1 ", *DRUGS[2:]]
    (text,) = told("complete_tensor", mdata)
    assert "4 treatment names differ" in text and "'Drug0' and 'drug0', 'drug1' and 'drug1 '" in text
    mdata.mod["line1"].obs_names = ["nan", *DRUGS[1:]]
    (text,) = told("complete_tensor", mdata)
    assert "'nan' among the names of treatments" in text


SYMBOLS = [f"Gene{g}" for g in range(10)]
STABLE = [f"ENSG{g:011d}" for g in range(10)]


@pytest.mark.parametrize(
    ("genes", "words"),
    [
        ([name.upper() for name in SYMBOLS], "Without differences in case, 10 would be: "),
        ([f"{name} " for name in SYMBOLS], "Without differences in blanks around them, 10 would be"),
        ([f"{name.lower()}.{g}" for g, name in enumerate(SYMBOLS)], "in case and versions such as '.1', 10 would be"),
        (STABLE, "line1: Ensembl identifiers such as ENSG0000000000"),
        ([f"probe{g}" for g in range(10)], "the first are Gene0 in 'line0', "),
    ],
)
@pytest.mark.parametrize("n_shared", [0, 2])
def test_genes_that_are_not_shared(rng, genes, words, n_shared):
    """An error where none is, a warning where most are lost; with the remedy."""
    mdata = together(rng.normal(size=(2, 8, 10)), [SYMBOLS, [*SYMBOLS[:n_shared], *genes[n_shared:]]])
    if n_shared:
        (text,) = told("array", mdata)
        assert text.startswith("Only 2 genes are shared by all 2 contexts ('line0' has 10, 'line1' has 10)")
    else:
        with pytest.raises(ValueError, match="share no gene") as error:
            kx.get.array(mdata)
        text = str(error.value)
    assert words in text
    for code in re.findall("`(for .*)`", text):
        exec(code, {"mdata": mdata})
        assert kx.get.array(mdata).shape == (8, 2, 10)


def test_a_panel_within_a_transcriptome_is_no_loss(rng):
    x = rng.normal(size=(8, 10))
    assert told("array", together([x, x[:, :3]], [SYMBOLS, SYMBOLS[4:7]])) == []


@pytest.mark.parametrize("axis", ["obs_names", "var_names"])
@pytest.mark.parametrize(
    "kind",
    [
        lambda names: pd.to_datetime(["2020-01-01"] * len(names)) + pd.to_timedelta(range(len(names)), "D"),
        pd.CategoricalIndex,
    ],
)
def test_names_of_other_kinds(rng, axis, kind):
    """Categories are names; of anything else, a sentence tells what to run."""
    mdata = together(rng.normal(size=(2, 8, 10)))
    expected = kx.get.array(mdata).values
    adata = mdata.mod["line1"]
    setattr(adata, axis, kind(list(getattr(adata, axis))))
    names = getattr(adata, axis)
    if isinstance(names[0], str):
        np.testing.assert_array_equal(kx.get.array(mdata).values, expected)
        return
    with pytest.raises(ValueError, match=f"The {axis} of modality 'line1' must be texts, found Timestamp"):
        kx.get.array(mdata)


@pytest.mark.parametrize("name", [".", "..", "a\\b", "a/b", "a\0", ""])
def test_names_that_no_file_can_hold(rng, name):
    mdata = together(rng.normal(size=(2, 8, 10)))
    with pytest.raises(ValueError, match="`key_added` must be a non-empty str without '/', a backslash"):
        kx.tl.complete_tensor(mdata, method="mean_1d", key_added=name)
    with tensors.without_pulling():
        other = mudata.MuData({name: mdata["line0"], "b": mdata["line1"]}, axis=-1)
    with pytest.raises(ValueError, match="cannot be saved in a file"):
        kx.get.array(other)


@pytest.mark.parametrize("names", [("a/b", "a_b", "c"), ("", "b", "."), ("a\\b/c", "b", "c"), (np.str_("a"), "b", "c")])
def test_the_remedy_for_names_of_modalities_runs_as_shown(rng, names):
    """Once for each sign, and no modality is lost."""
    mdata = together(rng.normal(size=(3, 8, 10)))
    with tensors.without_pulling():
        mdata = mudata.MuData(dict(zip(names, mdata.mod.values(), strict=True)), axis=-1)
        for _ in range(2):
            try:
                kx.get.array(mdata)
            except ValueError as error:
                (code,) = re.findall("`mdata = (.*)`", str(error))
                mdata = eval(code, {"MuData": mudata.MuData, "mdata": mdata})
    assert kx.get.array(mdata).shape == (8, 3, 10) and len(mdata.mod) == 3
