"""What ``python -m kronax complete`` starts from, besides an .h5mu file: profiles, counts of cells, tables."""

import contextlib
import re

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

import kronax as kx
from kronax._cli import tensor_in, validation
from kronax._data import tensor as tensors

FIXED = {"noise": 1.0, "own_share": 0.2, "common_share": 0.15}
SCREEN = ("--treatment", "perturbation", "--context", "cell_line", "--control", "control", "--replicate", "plate")

CONTROL = ("--treatment", "treatment", "--context", "context", "--control", "a")


def given(options: dict) -> list[str]:
    return [word for name, value in options.items() for word in ("--option", f"{name}={value}")]


@pytest.fixture(scope="module")
def mdata():
    return kx.datasets.drug_response(n_treatments=12, n_contexts=4, n_genes=6, missing=0.25)


@pytest.fixture(scope="module")
def measured(mdata):
    """The measured profiles, as one long object."""
    found = kx.get.profiles(mdata, layer=None)
    found.obs = found.obs.astype({"treatment": str, "context": str})
    return found[found.obs["measured"]].copy()


@pytest.fixture(scope="module")
def expected(measured):
    """All profiles, completed."""
    found = kx.pp.tensor(measured, obs_key="treatment", context_key="context")
    kx.tl.complete_tensor(found)
    return kx.get.profiles(found)


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    kx.datasets.screen(n_treatments=9, n_genes=40, n_cells=25, random_state=0).write_h5ad(path)
    return path


def long_table(measured, treatment="treatment", context="context") -> pd.DataFrame:
    about = measured.obs[["treatment", "context"]].set_axis([treatment, context], axis=1)
    return pd.concat([about, measured.to_df()], axis=1)


def rows_of(profiles) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(profiles.obs[["treatment", "context"]].astype(str))


def read(out, name: str) -> pd.DataFrame:
    return pd.read_csv(out / name).set_index(["treatment", "context"])


def test_long_file(run, measured, tmp_path):
    long = measured.copy()
    long.obs = long.obs.rename(columns={"treatment": "drug", "context": "line"}).drop(columns="measured")
    long.write_h5ad(tmp_path / "long.h5ad")
    words = ("--treatment", "drug", "--context", "line", "--folds", 0)
    assert run("complete", tmp_path / "long.h5ad", *words, "--out", tmp_path / "out")[0] == 0
    expected = kx.pp.tensor(ad.read_h5ad(tmp_path / "long.h5ad"), obs_key="drug", context_key="line")
    kx.tl.complete_tensor(expected)
    with tensors.without_pulling():
        back = mudata.read_h5mu(tmp_path / "out" / "long.h5mu")
    for context, adata in expected.mod.items():
        np.testing.assert_array_equal(back[context].layers["completed"], adata.layers["completed"])


@pytest.mark.parametrize(
    ("name", "separator", "decimal"),
    [("a.csv", ",", "."), ("a.csv.gz", ";", "."), ("a.csv", ";", ","), ("a.tsv", "\t", ".")],
)
def test_table_of_profiles(run, measured, expected, tmp_path, caplog, name, separator, decimal):
    long_table(measured).to_csv(tmp_path / name, sep=separator, decimal=decimal)
    assert run("complete", tmp_path / name, "--folds", 0, "--out", tmp_path / "out")[0] == 0
    assert "6 columns with numbers are genes (gene0 to gene5); of the others: treatment, context" in caplog.text
    found = read(tmp_path / "out", "profiles.csv")[list(expected.var_names)]
    np.testing.assert_allclose(found.loc[rows_of(expected)].to_numpy(), expected.X, rtol=1e-4, atol=1e-5)


def test_a_row_for_every_gene_is_refused_with_what_to_do(run, tmp_path):
    """Values of different genes would be averaged."""
    table = pd.DataFrame([(f"0{t}", c, g, t + 0.5 * g) for t in range(4) for c in "ab" for g in range(3)])
    table = table.set_axis(["drug", "line", "gene", "value"], axis=1).astype({"gene": str})
    table["gene"] = "g" + table["gene"]
    table.to_csv(tmp_path / "long.csv", index=False)
    words = ("--treatment", "drug", "--context", "line", "--method", "mean_1d", "--folds", 0)
    code, _, err = run("complete", tmp_path / "long.csv", *words, "--out", tmp_path / "out")
    assert code == 2 and "has a row for every gene of a profile, with its value in column 'value'" in err
    (remedy,) = re.findall("`(pd.*)`", err)
    with contextlib.chdir(tmp_path):
        exec(remedy, {"pd": pd})
    assert pd.read_csv(tmp_path / "profiles.csv", dtype={"drug": str}).shape == (8, 5)
    code, _, err = run("complete", tmp_path / "profiles.csv", *words, "--out", tmp_path / "out")
    assert code == 0 and not err.count("error")
    assert len(pd.read_csv(tmp_path / "out" / "profiles.csv")) == 8


def test_columns_that_are_no_genes(run, measured, tmp_path):
    table = long_table(measured)
    plain, about = tmp_path / "plain.csv", tmp_path / "about.csv"
    table.to_csv(plain)
    table.assign(dose_uM=np.arange(len(table)), Plate=1).to_csv(about)
    words = ("--folds", 0, "--method", "mean_1d", "--out")
    code, _, err = run("complete", about, *words, tmp_path / "told")
    assert code == 0
    assert (
        "dose_uM, Plate may be no genes, but what a row is about: --not-genes dose_uM --not-genes Plate leaves them out."
        in err
    )
    code, _, err = run(
        "complete", about, "--not-genes", "dose_uM", "--not-genes", "Plate", *words, tmp_path / "left_out"
    )
    assert code == 0 and "no gene" not in err
    assert "no gene" not in run("complete", plain, *words, tmp_path / "plain")[2]
    found = [(tmp_path / folder / "profiles.csv").read_text() for folder in ("left_out", "plain")]
    assert found[0] == found[1]


def test_a_column_of_numbers_but_for_an_entry(run, measured, tmp_path):
    table = long_table(measured).astype({"gene3": object})
    table.iloc[0, table.columns.get_loc("gene3")] = "n/d"
    table.assign(comment="as planned").to_csv(tmp_path / "a.csv")
    words = ("--folds", 0, "--method", "mean_1d", "--out", tmp_path / "out")
    code, _, err = run("complete", tmp_path / "a.csv", *words)
    assert code == 0 and "gene3 is not taken for genes: 1 value of 'gene3' is no number, such as 'n/d'." in err


def test_a_column_of_few_words(measured, recwarn):
    """It has more gaps than words, but no number."""
    table = long_table(measured).assign(comment=["repeated", *[None] * (len(measured) - 1)])
    tensor_in._tell_of_columns(table, ["gene0"], ["comment"])
    assert not recwarn


@pytest.mark.parametrize("gaps", [False, True])
def test_a_column_of_true_and_false(run, measured, tmp_path, gaps):
    """It is no gene, and has no entry that spoils it."""
    hits = pd.Series([True, False] * len(measured), dtype=object)[: len(measured)]
    hits[0] = None if gaps else hits[0]
    long_table(measured).assign(is_hit=hits.to_numpy()).to_csv(tmp_path / "a.csv")
    words = ("--folds", 0, "--method", "mean_1d", "--out", tmp_path / "out")
    code, _, err = run("complete", tmp_path / "a.csv", *words)
    assert code == 0 and "not taken for genes" not in err
    assert "is_hit" not in pd.read_csv(tmp_path / "out" / "profiles.csv")


def test_a_layer_of_counts(run, screen, tmp_path):
    cells = ad.read_h5ad(screen)
    cells.layers["counts"], cells.X = cells.X.copy(), None
    cells.write_h5ad(tmp_path / "layer.h5ad")
    words = (*SCREEN, "--method", "mean_1d", "--folds", 0)
    assert run("complete", screen, *words, "--out", tmp_path / "plain")[0] == 0
    assert run("complete", tmp_path / "layer.h5ad", *words, "--layer", "counts", "--out", tmp_path / "layer")[0] == 0
    for name in ("effects.csv", "profiles.csv"):
        assert (tmp_path / "layer" / name).read_text() == (tmp_path / "plain" / name).read_text()


def test_effects_have_no_controls(run, screen, tmp_path):
    """A treatment may well be called like one."""
    cells = ad.read_h5ad(screen)
    cells.obs["perturbation"] = cells.obs["perturbation"].astype(str).replace("drug1", "vehicle")
    assert (cells.obs["perturbation"] == "vehicle").any()
    keys = {"treatment_key": "perturbation", "control": "control", "context_key": "cell_line"}
    kx.pp.effects(cells, **keys, method="log_fold_change").write_h5ad(tmp_path / "effects.h5ad")
    code, _, err = run(
        "complete", tmp_path / "effects.h5ad", "--method", "mean_1d", "--folds", 0, "--out", tmp_path / "out"
    )
    assert code == 0 and "has controls" not in err


def test_genes_are_not_taken_for_something_else():
    genes = [
        "ID1",
        "TIMELESS",
        "TIMP1",
        "AGER",
        "CONC1A",
        "WELLS",
        "PLATEAU",
        "REP15",
        "DAYAM",
        "ROW2B",
        "HLA-DRA",
        "NT5E",
    ]
    assert not [name for name in genes if tensor_in._ABOUT.search(name)]
    about = [
        "dose",
        "Dose_uM",
        "rna_plate",
        "time (h)",
        "batch2",
        "bio.replicate",
        "Well",
        "concentration",
        "n_cells",
        "day",
    ]
    assert [name for name in about if tensor_in._ABOUT.search(name)] == about


def test_table_of_genes(run, mdata, tmp_path):
    """As DrugMatrix has them."""
    wide = kx.get.wide(mdata, layer=None)
    pd.concat([wide.obs, wide.to_df()], axis=1).to_csv(tmp_path / "wide.csv", index=False)
    assert run("complete", tmp_path / "wide.csv", "--folds", 0, "--out", tmp_path / "out")[0] == 0
    completed = kx.pp.from_wide(wide)
    kx.tl.complete_tensor(completed)
    expected = kx.get.profiles(completed)
    found = read(tmp_path / "out", "profiles.csv")[list(expected.var_names)]
    np.testing.assert_allclose(found.loc[rows_of(expected)].to_numpy(), expected.X, rtol=1e-4, atol=1e-5)


def test_tables_written(run, mdata, expected, tmp_path):
    """Single values are missing too; the table of profiles counts them, and can be completed again."""
    holes = mdata.copy()
    holes["line1"].X[:2, 0] = np.nan
    with tensors.without_pulling():
        holes.write(tmp_path / "a.h5mu")
    assert run("complete", tmp_path / "a.h5mu", "--folds", 0, "--out", tmp_path / "out")[0] == 0
    table = pd.read_csv(tmp_path / "out" / "profiles.csv")
    kx.tl.complete_tensor(holes)
    found = kx.get.profiles(holes)
    assert list(table["predicted_values"]) == list((~found.layers["measured"]).sum(axis=1))
    assert list(table["measured"]) == list(found.obs["measured"])
    np.testing.assert_allclose(table["completion_confidence"], found.obs["completion_confidence"], rtol=1e-5)
    confidences = pd.read_csv(tmp_path / "out" / "confidences.csv", index_col=0)
    assert confidences.shape == (12, 4)
    for row in table.itertuples():
        np.testing.assert_allclose(confidences.loc[row.treatment, row.context], row.completion_confidence, atol=1e-4)
    words = ("--method", "mean_1d", "--folds", 0)
    code, _, err = run("complete", tmp_path / "out" / "profiles.csv", *words, "--out", tmp_path / "again")
    n = (table["measured"] == False).sum()  # noqa: E712
    assert table.loc[table["measured"], "predicted_values"].sum() == 1
    (warning,) = (line for line in err.splitlines() if "predictions" in line)
    assert code == 0 and f"{n} of {len(table)} rows are predictions" in warning
    assert err.count("Measured rows hold 1 predicted value (`adata.obs['predicted_values']`)") == 1
    with tensors.without_pulling():
        again = mudata.read_h5mu(tmp_path / "again" / "profiles.h5mu")
    assert not any("predicted_values" in adata.obs for adata in again.mod.values())


def test_counts_of_cells(run, screen, tmp_path):
    """Effects are computed first, and those that are not sure left out."""
    words = (*SCREEN, "--p-max", 0.2, "--method", "mean_1d")
    code, text, _ = run("complete", screen, *words, "--out", tmp_path / "out")
    assert code == 0 and "held out" in text.lower()
    effects = pd.read_csv(tmp_path / "out" / "effects.csv")
    profiles = pd.read_csv(tmp_path / "out" / "profiles.csv")
    sure = effects[effects["p_value"] <= 0.2]
    assert 0 < len(sure) < len(effects)
    measured = profiles[profiles["measured"]]
    assert set(zip(measured.treatment, measured.context, strict=True)) == set(
        zip(sure.treatment, sure.context, strict=True)
    )


def test_counts_in_a_table(run, screen, tmp_path):
    cells = ad.read_h5ad(screen)
    pd.concat([cells.obs, cells.to_df()], axis=1).to_csv(tmp_path / "cells.csv")
    for name, file in (("table", tmp_path / "cells.csv"), ("file", screen)):
        assert run("complete", file, *SCREEN, "--folds", 0, "--method", "mean_1d", "--out", tmp_path / name)[0] == 0
    found = [(tmp_path / name / "effects.csv").read_text() for name in ("table", "file")]
    assert found[0] == found[1]


def test_effects_know_their_columns(run, screen, tmp_path):
    assert run("effects", screen, *SCREEN, "--out", tmp_path / "first")[0] == 0
    words = ("--p-max", 0.2, "--folds", 0, "--method", "mean_1d")
    assert run("complete", tmp_path / "first" / "effects.h5ad", *words, "--out", tmp_path / "second")[0] == 0
    assert run("complete", screen, *SCREEN, *words, "--out", tmp_path / "at_once")[0] == 0
    found = [(tmp_path / folder / "profiles.csv").read_text() for folder in ("second", "at_once")]
    assert found[0] == found[1]


def names_in(out, column: str) -> list[str]:
    return sorted(pd.read_csv(out / "profiles.csv", dtype=str, keep_default_na=False)[column].unique())


NAMES = ["001", "01", "1", "1E1", "NA", "None", "nan", "null"]  # that could be taken for numbers, or for missing ones


def test_names_stay_what_they_are(run, measured, tmp_path):
    """An empty one is missing; a value is missing where it is called so."""
    called = dict(zip([f"drug{i}" for i in range(8)], NAMES, strict=True)) | {
        f"line{i}": NAMES[i + 1] for i in range(4)
    }
    table = (
        long_table(measured).replace(called).rename(columns={"gene0": "NA", "gene1": "01"}).astype({"gene2": object})
    )
    table.iloc[0, table.columns.get_loc("treatment")] = ""
    table.iloc[1, table.columns.get_loc("gene2")] = "NA"
    table.to_csv(tmp_path / "a.csv")
    words = ("--method", "mean_1d", "--folds", 0)
    assert run("complete", tmp_path / "a.csv", *words, "--out", tmp_path / "out")[0] == 0
    assert names_in(tmp_path / "out", "treatment") == sorted([*NAMES, "drug10", "drug11", "drug8", "drug9"])
    assert names_in(tmp_path / "out", "context") == NAMES[1:5]
    found = pd.read_csv(tmp_path / "out" / "profiles.csv")
    assert found["measured"].sum() == len(table) - 1
    assert found["predicted_values"][found["measured"]].sum() == 1
    assert {"NA", "01", "gene2"} <= set(found)


def test_names_of_a_table_of_genes_stay_what_they_are(run, mdata, tmp_path):
    wide = kx.get.wide(mdata, layer=None)
    called = {f"gene{i}": NAMES[i] for i in range(6)} | {f"line{i}": NAMES[i + 4] for i in range(4)}
    table = pd.concat([wide.obs.astype(str).replace(called), wide.to_df()], axis=1)
    table = table.rename(columns={"drug0": "0001", "drug1": "NA"})
    table.to_csv(tmp_path / "wide.csv", index=False)
    words = ("--method", "mean_1d", "--folds", 0)
    assert run("complete", tmp_path / "wide.csv", *words, "--out", tmp_path / "out")[0] == 0
    assert names_in(tmp_path / "out", "context") == NAMES[4:]
    assert {"0001", "NA"} <= set(names_in(tmp_path / "out", "treatment"))
    assert set(NAMES[:6]) <= set(pd.read_csv(tmp_path / "out" / "profiles.csv"))
    table.loc[3, "gene"] = ""
    table.to_csv(tmp_path / "empty.csv", index=False)
    code, _, err = run("complete", tmp_path / "empty.csv", *words, "--out", tmp_path / "empty")
    assert code == 2 and "is missing in 1 rows" in err


def test_rows_that_end_with_a_separator(run, measured, expected, tmp_path):
    header, *rows = long_table(measured).to_csv(index=False).splitlines()
    (tmp_path / "a.csv").write_text("\n".join([header, *(f"{row}," for row in rows)]) + "\n", encoding="utf-8")
    assert run("complete", tmp_path / "a.csv", "--folds", 0, "--out", tmp_path / "out")[0] == 0
    found = read(tmp_path / "out", "profiles.csv")[list(expected.var_names)]
    np.testing.assert_allclose(found.loc[rows_of(expected)].to_numpy(), expected.X, rtol=1e-4, atol=1e-5)


def test_row_names_without_a_header_beside_a_gene_that_nobody_measured(run, measured, expected, tmp_path):
    """As R writes tables: the header has one name less than rows have values."""
    table = long_table(measured).assign(lost="")
    header, *rows = table.to_csv(index=False).splitlines()
    (tmp_path / "a.csv").write_text(
        "\n".join([header, *(f"{i},{row}NA" for i, row in enumerate(rows))]), encoding="utf-8"
    )
    run("complete", tmp_path / "a.csv", "--folds", 0, "--out", tmp_path / "out")
    written = read(tmp_path / "out", "profiles.csv")
    found = written.loc[rows_of(expected), list(expected.var_names)].to_numpy()
    told = written.loc[rows_of(expected), "measured"].to_numpy(bool)
    assert 0 < told.sum() < len(told)
    np.testing.assert_allclose(found[told], expected.X[told], rtol=1e-4, atol=1e-5)


def test_columns_of_one_name_are_refused(run, measured, tmp_path):
    table = long_table(measured)
    pd.concat([table, table[["gene1"]]], axis=1).to_csv(tmp_path / "a.csv")
    code, _, err = run("complete", tmp_path / "a.csv", "--folds", 0, "--out", tmp_path / "out")
    assert code == 2 and "has several columns of one name: gene1. Rename or remove all but one." in err


def test_names_that_look_alike_are_told_once(run, measured, tmp_path):
    """Not once more because the first context lacks the first of them."""
    table = long_table(measured).replace({"drug0": "Drug A", "drug2": "drug a"})
    assert ((table["context"] == "line0") & (table["treatment"] == "drug a")).any()
    table[(table["context"] != "line0") | (table["treatment"] != "Drug A")].to_csv(tmp_path / "a.csv")
    _, _, err = run("complete", tmp_path / "a.csv", "--method", "mean_1d", "--folds", 0, "--out", tmp_path / "out")
    assert err.count("differ by blanks or case only: 'Drug A' and 'drug a'") == err.count("by blanks or case") == 1


def test_controls_are_pointed_out(run, measured, tmp_path):
    table = long_table(measured)
    table["treatment"] = table["treatment"].astype(str).replace("drug0", "DMSO")
    table.to_csv(tmp_path / "a.csv")
    _, _, err = run("complete", tmp_path / "a.csv", "--folds", 0, "--out", tmp_path / "out")
    assert "treatment has controls: if the rows are counts of cells, name them, --control DMSO" in err


def test_report_on_held_out_profiles(run, tmp_path):
    mdata = kx.datasets.drug_response(n_treatments=30, n_contexts=5, n_genes=20, missing=0.25)
    with tensors.without_pulling():
        mdata.write(tmp_path / "a.h5mu")
    code, text, _ = run("complete", tmp_path / "a.h5mu", "--folds", 4, *given(FIXED), "--out", tmp_path / "out")
    assert code == 0
    options = {"kronecker": ("kronecker", kx.tl.KroneckerOptions(**FIXED)), "mean_1d": "mean_1d", "mean_2d": "mean_2d"}
    result = kx.metrics.cross_validate(mdata, methods=options, n_folds=4, with_controls=False)
    for method, row in result.table.iterrows():
        assert f"  {method:<9}{row.pct:>14.3f}{row.pct_fiber:>15.3f}{np.sqrt(row.mse):>10.3g}" in text
    best = result.table["pct"].drop("kronecker").max()
    assert f"kronecker predicts better than means do, by {result.table.pct['kronecker'] - best:.3f}." in text
    fifths = result.promises()
    assert f"{fifths.promised.iloc[-1]:.2f} / {fifths.reached.iloc[-1]:.2f} in the most." in text
    assert text[text.index("  Held out: ") : text.index("\n\nWritten to")] in (
        tmp_path / "out" / "report.txt"
    ).read_text("utf-8")


@pytest.mark.parametrize(
    ("ours", "mean", "said"),
    [
        (0.5, 0.4, "cp predicts better than means do, by 0.100."),
        (0.3, 0.4, "mean_1d predicts better here, by 0.100: use --method mean_1d"),
        (0.4, 0.401, "cp predicts no better than mean_1d"),
        (-0.001, -0.048, "cp predicts nothing here"),
        (np.nan, 0.4, "Nothing can be said"),
        (0.4, np.nan, "Nothing can be said"),
    ],
)
def test_verdict(ours, mean, said):
    assert validation._verdict(pd.Series({"cp": ours, "mean_1d": mean}), "cp").startswith(said)


@pytest.mark.parametrize(
    ("file", "words", "message"),
    [
        ("screen", (), "name the column with the treatments: --treatment COLUMN. There are: perturbation, cell_line"),
        ("screen", ("--treatment", "perturb", "--context", "cell_line"), "Did you mean 'perturbation'?"),
        ("screen", ("--control", "control"), "name the columns with --treatment and --context"),
        ("screen", ("--replicate", "plate"), "name the controls, too"),
        ("screen", SCREEN[:6], "run python -m kronax effects --method log_fold_change first"),
        ("screen", (*SCREEN, "--p-max", 1e-9), "no effect is so sure; the smallest p-value is 0.0"),
        ("screen", (*SCREEN[:4], "--p-max", 0.1), "--p-max needs effects with a p-value"),
        ("a.h5mu", ("--treatment", "x", "--p-max", "1"), "already; leave --treatment and --p-max out"),
        ("a.csv", ("--layer", "x"), "is a table, and has no layers"),
        ("a.csv", ("--treatment", "drug"), "There is no column 'drug' in"),
        ("texts.csv", (), "has no column of numbers that could be a gene"),
        ("wide.csv", (), "must hold the values of one treatment each, but 'b' holds texts"),
        ("wide.csv", ("--not-genes", "b"), "the columns of"),
        ("a.h5mu", ("--not-genes", "b"), "--not-genes names columns of a table"),
        ("a.csv", ("--not-genes", "dosis"), "There is no column 'dosis' in"),
        ("commas.csv", (), "'g' has numbers with commas, such as 0,25. Write them with a decimal point"),
        ("thousands.csv", (), "'g' has numbers with commas, such as 1,234.50. Write them"),
        ("header.csv", (), "has names in its first row and no row below"),
        (
            "slash.csv",
            (),
            "contexts name parts of the results, and 'x/y', '.' cannot. Write others in column 'context'",
        ),
        ("one.csv", (), "A tensor needs at least 2 contexts; column 'context' of"),
        ("infinite.csv", (), "infinite.csv has 1 infinite values. Replace them; leave what is missing empty."),
        ("control.csv", CONTROL, "No control (a) in y of column 'context' of"),
        ("control.csv", CONTROL, "Leave these contexts out, or name their controls in --control."),
        ("nameless.csv", (), "column 'gene' of"),
        ("a.xlsx", (), "a.xlsx is a spreadsheet; save it as .csv"),
        ("effects.csv", (), "Complete effects.h5ad, which python -m kronax effects writes too"),
        ("empty.csv", (), "empty.csv cannot be read as a table"),
        ("bytes.csv", (), "bytes.csv cannot be read as a table"),
        ("none.csv", (), "is not there"),
    ],
)
def test_refused(run, mdata, measured, screen, tmp_path, file, words, message):
    path = screen if file == "screen" else tmp_path / file
    if file == "a.h5mu":
        with tensors.without_pulling():
            mdata.write(path)
    long_table(measured).to_csv(tmp_path / "a.csv")
    pd.DataFrame({"treatment": ["a"], "context": ["b"]}).to_csv(tmp_path / "texts.csv")
    pd.DataFrame({"context": ["a"], "gene": ["g"], "b": ["x"]}).to_csv(tmp_path / "wide.csv")
    named = {"treatment": ["a", "b"], "context": ["x", "y"]}
    pd.DataFrame(named | {"g": ["0,25", "1,5"]}).to_csv(tmp_path / "commas.csv")
    pd.DataFrame(named | {"g": ["12.00", "1,234.50"]}).to_csv(tmp_path / "thousands.csv")
    pd.DataFrame(named | {"n_cells": 3, "effect_size": 0.5}).to_csv(tmp_path / "effects.csv")
    pd.DataFrame(named | {"context": ["x/y", "."], "g": 1.0}).to_csv(tmp_path / "slash.csv")
    pd.DataFrame(named | {"context": "x", "g": 1.0}).to_csv(tmp_path / "one.csv")
    pd.DataFrame(named | {"g": [1.0, np.inf]}).to_csv(tmp_path / "infinite.csv")
    pd.concat([pd.DataFrame(named | {"g": [1, 2]})] * 10).to_csv(tmp_path / "control.csv")
    pd.DataFrame({"context": ["x", "y"], "gene": ["g", ""], "a": 1.0}).to_csv(tmp_path / "nameless.csv")
    (tmp_path / "header.csv").write_text("treatment,context,g\n")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00a")
    code, _, err = run("complete", path, *words, "--out", tmp_path / "out")
    assert code == 2 and message in err
    assert path.suffix != ".csv" or "adata" not in err
    assert not (tmp_path / "out").exists()


def test_confidences_of_few_profiles_are_not_judged(run, tmp_path):
    small = kx.datasets.drug_response(n_treatments=6, n_contexts=3, n_genes=5, missing=0.2)
    with tensors.without_pulling():
        small.write(tmp_path / "a.h5mu")
    code, text, _ = run("complete", tmp_path / "a.h5mu", *given(FIXED), "--out", tmp_path / "out")
    assert code == 0 and "  Held out: " in text and "promised" not in text
