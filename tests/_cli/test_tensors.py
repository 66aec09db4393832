"""``python -m kronax complete``: one run on a file, and what can be refused."""

import contextlib
import re
import textwrap

import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import kronax as kx
from kronax import __main__
from kronax._cli import files
from kronax._cli import options as option_text
from kronax._cli import tensors as completion
from kronax._data import tensor as tensors
from kronax.solvers.tensor.registry import METHODS


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    mdata = kx.datasets.drug_response(n_treatments=12, n_contexts=4, n_genes=6, missing=0.25)
    path = tmp_path_factory.mktemp("file") / "responses.h5mu"
    with tensors.without_pulling():
        mdata.write(path)
    return path


@pytest.fixture(scope="module")
def completed(run, file, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "results"
    code, text, err = run("complete", file, "--out", out)
    assert code == 0 and "warning" not in err
    return out, text


def test_writes_the_completed_file(file, completed):
    out, _ = completed
    tables = {"profiles.csv", "confidences.csv"}
    figures = {"measured.png", "predicted_against_true.png"}
    assert {path.name for path in out.iterdir()} == {"responses.h5mu", "report.txt"} | tables | figures
    with tensors.without_pulling():
        back, expected = mudata.read_h5mu(out / "responses.h5mu"), mudata.read_h5mu(file)
        kx.tl.complete_tensor(expected)
    for context, adata in expected.mod.items():
        np.testing.assert_array_equal(back[context].layers["completed"], adata.layers["completed"])


def test_room(room, file, completed, tmp_path):
    size = (completed[0] / "responses.h5mu").stat().st_size
    assert room(size - 1, "complete", file, "--out", tmp_path / "results") <= 4 * size + 2**20


def test_room_for_all_matrices_of_a_file(room, tmp_path):
    """Also where a modality lacks treatments, of which it will have rows."""
    mdata = kx.datasets.drug_response(n_treatments=40, n_contexts=2, n_genes=6, missing=0.25)
    mdata["line0"].obsm["wide"] = np.ones((40, 2**14))
    mdata["line1"].layers["other"] = mdata["line1"].X.copy()
    mdata.mod["line0"] = mdata["line0"][:20].copy()
    mdata.varm["wide"] = np.ones((6, 2**17))
    with tensors.without_pulling():
        mdata.update()
        mdata.write(tmp_path / "a.h5mu")
    least = 8 * (40 * 2**14 + 6 * 2**17)
    assert least < room(least, "complete", tmp_path / "a.h5mu") < least + 2**21


def test_report(file, completed):
    out, text = completed
    report = (out / "report.txt").read_text(encoding="utf-8")
    assert report in text
    assert report.startswith(f"kronax {kx.__version__} on {file}\n\n  treatments ")
    for line in (
        r"treatments +12",
        r"contexts +4   line0, line1, line2, line3",
        r"genes +6   in all contexts",
        r"measured +36   75% of all profiles",
        r"predicted +12   profiles",
        r"and +0   single entries",
        r"method +kronecker",
        r"converged +yes   a sweep changed",
        r"confidence +0\.\d\d   of the median profile",
    ):
        assert re.search(f"^  {line}", report, re.MULTILINE), line
    assert "fallbacks" not in report


def test_confidences_are_those_of_predicted_profiles():
    """And not those of single entries that measured profiles lack."""
    mdata = kx.datasets.drug_response(n_treatments=12, n_contexts=4, n_genes=6, missing=0.25)
    for adata in mdata.mod.values():
        adata.X[np.flatnonzero(adata.obs["measured"])[:4], 0] = np.nan
    kx.tl.complete_tensor(mdata, method="mean_1d")
    for c, adata in enumerate(mdata.mod.values()):
        adata.obs["completion_confidence"] = np.where(adata.obs["measured"], 0.95, np.linspace(0.1, 0.9, 12) ** (c + 1))
    obs = pd.concat([adata.obs for adata in mdata.mod.values()])
    low, middle, high = obs["completion_confidence"][~obs["measured"]].quantile([0.1, 0.5, 0.9])
    words = f"{middle:.2f}   of the median profile; {low:.2f} to {high:.2f} for 80% of them"
    assert words in completion.report(mdata, 1.0)


def test_the_next_lines_work_as_printed(completed, monkeypatch):
    _, text = completed
    monkeypatch.setattr(plt, "show", lambda: None)
    names = {}
    exec(textwrap.dedent(text.split("Next, in Python:\n")[1]), names)
    plt.close("all")
    assert names["profiles"].n_obs == 48


def test_method_layer_and_fallbacks(run, tmp_path):
    mdata = kx.datasets.drug_response(n_treatments=8, n_contexts=3, n_genes=5, missing=0.25)
    for adata in mdata.mod.values():
        adata.layers["constant"] = np.where(np.isnan(adata.X), np.nan, 1.0)
    with tensors.without_pulling():
        mdata.write(tmp_path / "a.h5mu")
    with contextlib.chdir(tmp_path):
        code, text, err = run("complete", "a.h5mu", "--method", "dnpp", "--layer", "constant")
    assert code == 0 and (tmp_path / "kronax-a" / "a.h5mu").is_file()
    assert re.search(r"^  fallbacks +6   6 by context mean$", text, re.MULTILINE)
    assert not re.search("^  confidence ", text, re.MULTILINE) and "confidences.csv" not in text
    assert "Nothing can be said: a prediction that does not vary has no correlation." in text
    assert "warning: 18 measured profiles are constant" in err


@pytest.mark.parametrize(
    ("method", "words", "expected"),
    [
        ("kronecker", ["noise=0.5", "own_share=cv", "max_iter=7"], kx.tl.KroneckerOptions(noise=0.5, max_iter=7)),
        ("kronecker", ["variance=TRUE", "noises=1, 2"], kx.tl.KroneckerOptions(variance=True, noises=(1.0, 2.0))),
        ("falrtc", ["alpha=1,0.01,1"], kx.tl.FalrtcOptions(alpha=(1.0, 0.01, 1.0))),
        ("mf", ["outlier_z=none", "scale=none"], kx.tl.FactorizationOptions(outlier_z=None, scale=None)),
        ("mf", ["cutoffs=-2,-1,1,2"], kx.tl.FactorizationOptions(cutoffs=(-2.0, -1.0, 1.0, 2.0))),
        ("cp", ["non_negative=context,gene"], kx.tl.FactorizationOptions(non_negative=("context", "gene"))),
        (
            "attention_cp",
            ["attention=product", "or_cp=false"],
            kx.tl.AttentionOptions(attention="product", or_cp=False),
        ),
        ("mean_1d", [], kx.tl.Mean1dOptions()),
    ],
)
def test_options_from_words(method, words, expected):
    found = option_text.options_from(method, words)
    assert found == expected
    assert [type(value) for value in vars(found).values()] == [type(value) for value in vars(expected).values()]


@pytest.mark.parametrize("method", METHODS)
def test_every_option_can_be_given(method):
    """As what is there by default, written as one would."""
    default = METHODS[method].options()
    words = [
        f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in vars(default).items()
    ]
    assert option_text.options_from(method, words) == default


def test_options_are_used(run, file, tmp_path):
    words = ("--method", "dnpp", "--option", "n_neighbors=2", "--folds", 0)
    code, text, _ = run("complete", file, *words, "--out", tmp_path / "out")
    assert code == 0
    assert re.search("^  method +dnpp   with n_neighbors=2$", text, re.MULTILINE)
    with tensors.without_pulling():
        back, expected = mudata.read_h5mu(tmp_path / "out" / "responses.h5mu"), mudata.read_h5mu(file)
        kx.tl.complete_tensor(expected, method="dnpp", options=kx.tl.DnppOptions(n_neighbors=2))
    np.testing.assert_array_equal(back["line1"].layers["completed"], expected["line1"].layers["completed"])


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("cp", ["rank"], f"--option rank: write NAME=VALUE, such as rank={kx.tl.FactorizationOptions().rank}."),
        ("dnpp", ["fast"], "--option fast: write NAME=VALUE, such as n_neighbors=10."),
        ("mean_1d", ["rank"], "method 'mean_1d' has no options"),
        ("cp", ["rnak=3"], "There is no cp option 'rnak'. Did you mean 'rank'?"),
        ("dnpp", ["zzz=3"], "There are n_neighbors."),
        ("cp", ["rank=2.5"], "--option rank=2.5: rank is a whole number, found '2.5'."),
        ("cp", ["rank=3", "rank=4"], "rank is given twice"),
        ("cp", ["refit=yes"], "refit is true or false, found 'yes'"),
        ("cp", ["start=cold"], "start is alike or random, found 'cold'"),
        ("cp", ["rank=0"], "`options.rank` must be an integer of at least 1, found 0"),
        ("kronecker", ["noise=auto"], "noise is a number or cv, found 'auto'"),
        (
            "kronecker",
            ["noises=1,x"],
            "noises is one or more values with commas between them, each a number, found '1,x'",
        ),
        ("mean_1d", ["rank=3"], "method 'mean_1d' has no options"),
    ],
)
def test_options_refused(run, file, tmp_path, method, words, message):
    given = [part for word in words for part in ("--option", word)]
    code, _, err = run("complete", file, "--method", method, *given, "--out", tmp_path / "out")
    assert code == 2 and message in err
    assert not (tmp_path / "out").exists()


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["complete", "--help"])
    text = capsys.readouterr().out
    assert "  mf, cp: rank, learning_rate, " in text and "--option NAME=VALUE" in text
    assert all(name in text for method in METHODS.values() for name in vars(method.options()))


def test_refused(run, file, tmp_path):
    with h5py.File(tmp_path / "plain.h5mu", "w") as plain:
        plain["obs"] = 1
    (tmp_path / "text.h5mu").write_text("no")
    out = tmp_path / "out"
    for arguments, words in (
        ((tmp_path / "none.h5mu",), "is not there; an .h5mu, .h5ad or .csv file is needed"),
        ((tmp_path,), "is a folder"),
        ((tmp_path / "text.h5mu",), "cannot be read as an .h5mu file"),
        ((tmp_path / "plain.h5mu",), "it has no modalities. kx.pp.tensor makes them"),
        ((file, "--layer", "counts"), "Key 'counts' not found in `mdata['line0'].layers`. Available keys: ['truth']"),
    ):
        code, _, err = run("complete", *arguments, "--out", out)
        assert code == 2 and words in err
        assert not out.exists()
    code, _, err = run("complete", file, "--out", tmp_path)
    assert code == 2 and "is already there" in err
    with pytest.raises(SystemExit):
        run("complete", file, "--method", "parafac")


@pytest.mark.parametrize("where", ["read_h5mu", "write_h5mu"])
def test_interrupted(run, file, tmp_path, monkeypatch, where):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, where, interrupt)
    code, _, err = run("complete", file, "--method", "mean_1d", "--out", tmp_path / "new" / "results")
    assert code == 130 and err.endswith("interrupted; nothing was written\n")
    assert not list(tmp_path.iterdir())


def test_names_of_the_users(run, tmp_path):
    """A layer to complete, a column and an entry of uns have the names of results; contexts lack treatments."""
    whole = kx.datasets.drug_response(n_treatments=8, n_contexts=3, n_genes=5, missing=0)
    modalities = {context: adata[start : start + 6].copy() for start, (context, adata) in enumerate(whole.mod.items())}
    for adata in modalities.values():
        adata.layers["completed"] = adata.X + 1
        adata.obs["measured"] = "by sequencing"
    with tensors.without_pulling():
        mdata = mudata.MuData(modalities, axis=-1)
        mdata.uns["completion"] = "92%"
        mdata.write(tmp_path / "a.h5mu")
    arguments = ("--method", "mean_1d", "--layer", "completed", "--out", tmp_path / "out")
    code, text, err = run("complete", tmp_path / "a.h5mu", *arguments)
    assert code == 0
    assert re.search(r"^  measured +18   75% of all profiles$", text, re.MULTILINE)
    assert "kept: layers['completed'] of the file is now layers['completed_before']" in err
    with tensors.without_pulling():
        back = mudata.read_h5mu(tmp_path / "out" / "a.h5mu")
    assert back.uns["completion_before"] == "92%"
    for context, adata in modalities.items():
        found = back[context][adata.obs_names]
        np.testing.assert_array_equal(found.layers["completed_before"], adata.layers["completed"])
        np.testing.assert_array_equal(found.layers["completed"], adata.layers["completed"])
        assert set(found.obs["measured_before"]) == {"by sequencing"}
        assert back[context].obs["measured"].sum() == 6


def test_predictions_are_not_completed(run, completed, tmp_path):
    out, _ = completed
    code, _, err = run("complete", out / "responses.h5mu", "--layer", "completed", "--out", tmp_path / "again")
    assert code == 2 and "is a result of kx.tl.complete_tensor" in err


def test_what_cannot_be_written_is_told_before_the_work(run, file, tmp_path, monkeypatch):
    monkeypatch.setattr(kx.tl, "complete_tensor", None)
    broken = tmp_path / "broken.h5mu"
    broken.write_bytes(file.read_bytes())
    with h5py.File(broken, "r+") as content:
        table = content["mod/line1/var"]
        table.move(table.attrs["_index"], "names")
        table.attrs["_index"] = "names"
        column = table.create_dataset("_index", data=np.arange(6.0))
        column.attrs["encoding-type"], column.attrs["encoding-version"] = "array", "0.2.0"
        table.attrs["column-order"] = np.array(["_index"], dtype=h5py.string_dtype())
    code, _, err = run("complete", broken, "--out", tmp_path / "out")
    assert code == 2 and "cannot be written to a new file: " in err and "_index" in err
    assert {path.name for path in tmp_path.iterdir()} == {"broken.h5mu"}


# Side information


@pytest.fixture(scope="module")
def unmeasured(tmp_path_factory):
    """A file with a treatment and a context that were never measured, and tables of what is known of them."""
    folder = tmp_path_factory.mktemp("unmeasured")
    mdata = kx.datasets.drug_response(n_treatments=12, n_contexts=4, n_genes=6, missing=0.25)
    for adata in mdata.mod.values():
        adata.X[3] = np.nan
    mdata["line2"].X[:] = np.nan
    names = list(mdata.obs_names)
    group = np.arange(12) % 3
    similarity = pd.DataFrame((group[:, None] == group).astype(float), index=names, columns=names)
    similarity.iloc[::-1, ::-1].to_csv(folder / "structure.csv")
    similarity.iloc[1:, 1:].to_csv(folder / "short.csv")
    doses = pd.DataFrame({"dose": [1.0, 2.0, 4.0, 8.0], "plate": list("aabb")}, index=list(mdata.mod))
    doses.to_csv(folder / "doses.csv")
    lines = pd.DataFrame(np.eye(4) + 1, index=list(mdata.mod), columns=list(mdata.mod))
    lines.to_csv(folder / "lines.csv", sep="\t")
    doses.iloc[:2].to_csv(folder / "two.csv")
    (folder / "empty.csv").write_text("")
    doses[[]].to_csv(folder / "alone.csv")
    doses.assign(dose=[1.0, np.nan, 4.0, 8.0]).to_csv(folder / "gap.csv")
    similarity.where(np.tri(12, dtype=bool), 0).to_csv(folder / "skew.csv")
    with tensors.without_pulling():
        mdata.write(folder / "responses.h5mu")
    return folder


FIXED = {"noise": 1.0, "own_share": 0.2, "common_share": 0.15, "similarity_share": 0.1}  # nothing to choose
GIVEN = [word for name, value in FIXED.items() for word in ("--option", f"{name}={value}")]


def test_similarity_and_contexts(run, unmeasured, tmp_path):
    words = ["--similarity", unmeasured / "structure.csv", "--contexts", unmeasured / "doses.csv", "--folds", 0, *GIVEN]
    code, text, _ = run("complete", unmeasured / "responses.h5mu", *words, "--out", tmp_path / "out")
    assert code == 0 and re.search(r"fallbacks +\d+   .*by similarity", text)
    with tensors.without_pulling():
        back = mudata.read_h5mu(tmp_path / "out" / "responses.h5mu")
        expected = mudata.read_h5mu(unmeasured / "responses.h5mu")
    names = list(expected.obs_names)
    expected.obsp["structure"] = pd.read_csv(unmeasured / "structure.csv", index_col=0).loc[names, names].to_numpy()
    expected.uns["contexts"] = pd.read_csv(unmeasured / "doses.csv", index_col=0)
    options = kx.tl.KroneckerOptions(
        treatment_similarity="structure", context_coordinates={"dose": "rank", "plate": "category"}, **FIXED
    )
    with pytest.warns(UserWarning):
        kx.tl.complete_tensor(expected, options=options)
    np.testing.assert_array_equal(back["line2"].layers["completed"], expected["line2"].layers["completed"])
    assert (back["line2"].obs["completion_fallback"] == "similarity").any()


def test_scales_and_similarities_of_contexts(run, unmeasured, tmp_path):
    scale = ["--contexts", unmeasured / "doses.csv", "--option", "context_coordinates=dose=log", "--folds", 0, *GIVEN]
    code, _, _ = run("complete", unmeasured / "responses.h5mu", *scale, "--out", tmp_path / "scale")
    assert code == 0
    lines = ["--contexts", unmeasured / "lines.csv", "--folds", 0, *GIVEN]
    code, _, _ = run("complete", unmeasured / "responses.h5mu", *lines, "--out", tmp_path / "lines")
    assert code == 0
    with tensors.without_pulling():
        chosen = mudata.read_h5mu(tmp_path / "scale" / "responses.h5mu").uns["completion"]["chosen"]
        assert "length_dose" in chosen and "length_plate" not in chosen
        found = mudata.read_h5mu(tmp_path / "lines" / "responses.h5mu").uns
    assert found["context_similarity"].shape == (4, 4)


def test_names_in_tables_stay_what_they_are(run, tmp_path):
    """They could be taken for numbers, or for missing ones; rows without a name are left out."""
    mdata = kx.datasets.drug_response(n_treatments=8, n_contexts=4, n_genes=6, missing=0.25)
    names, contexts = ["000", "01", "1", "NA", "None", "nan", "1E1", "drug"], ["01", "1", "1.0", "NA"]
    for adata in mdata.mod.values():
        adata.obs_names = names
    with tensors.without_pulling():
        mdata = mudata.MuData(dict(zip(contexts, mdata.mod.values(), strict=True)), axis=-1)
        mdata.write(tmp_path / "a.h5mu")
    names = list(mdata.obs_names)
    pd.DataFrame(np.eye(8) + 1, index=names, columns=names).to_csv(tmp_path / "similarity.csv")
    doses = pd.DataFrame({"dose": [1.0, 2.0, 4.0, 8.0, np.nan, np.nan]}, index=[*contexts, "", ""])
    doses.to_csv(tmp_path / "doses.csv")
    words = ("--similarity", tmp_path / "similarity.csv", "--contexts", tmp_path / "doses.csv", "--folds", 0, *GIVEN)
    assert run("complete", tmp_path / "a.h5mu", *words, "--out", tmp_path / "out")[0] == 0
    with tensors.without_pulling():
        back = mudata.read_h5mu(tmp_path / "out" / "a.h5mu")
    assert list(back.uns["contexts"].index) == contexts and list(back.uns["contexts"]["dose"]) == [1, 2, 4, 8]
    np.testing.assert_array_equal(back.obsp["similarity"], np.eye(8) + 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--similarity", "short.csv"], "short.csv has no rows for 1 treatments: drug0. It needs one for each."),
        (["--contexts", "two.csv"], "two.csv has no rows for 2 contexts: line2, line3"),
        (["--similarity", "none.csv"], "none.csv cannot be read as a table"),
        (["--similarity", "doses.csv"], "doses.csv has no rows for 12 treatments"),
        (["--similarity", "empty.csv"], "empty.csv cannot be read as a table"),
        (["--contexts", "empty.csv"], "empty.csv cannot be read as a table"),
        (["--similarity", "skew.csv"], "skew.csv` is not symmetric: "),
        (["--similarity", "skew.csv"], "Take the mean of both if they mean the same."),
        (["--contexts", "gap.csv"], "gap.csv['dose']` has no value for the contexts line1"),
        (["--contexts", "doses.csv", "--option", "context_coordinates=time=log"], "Key 'time' not found in `"),
        (["--contexts", "alone.csv"], "alone.csv has names in its first column and nothing beside them"),
        (["--similarity", "structure.csv", "--method", "dnpp"], "are for --method kronecker"),
        (["--contexts", "doses.csv", "--option", "context_coordinates=dose=exp"], "context_coordinates is"),
    ],
)
def test_tables_that_do_not_fit(run, unmeasured, tmp_path, words, message):
    words = [unmeasured / word if word.endswith(".csv") else word for word in words]
    code, _, err = run("complete", unmeasured / "responses.h5mu", *words, "--out", tmp_path / "out")
    assert code == 2 and message in err and "mdata" not in err
    assert not (tmp_path / "out").exists()
