"""``python -m kronax``: one run on the example, one on a file, and everything that can be refused."""

import contextlib
import io
import re
import subprocess
import sys
import textwrap
import warnings

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib import pyplot as plt
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score

from kronax import __main__
from kronax._cli import quickstart

FILES = {"gene_modules.png", "umap.png"}


def run(*argv: object) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = __main__.main([str(word) for word in argv])
    return code, out.getvalue(), err.getvalue()


def number(report: str, name: str, column: int = 0) -> str:
    """Read a field of the report."""
    return re.search(rf"^  {name} .*$", report, re.MULTILINE).group()[len(name) + 2 :].split()[column]


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """Run the quickstart in an empty folder, once: the folder and what was printed."""
    folder = tmp_path_factory.mktemp("example")
    with contextlib.chdir(folder):
        code, out, _ = run()
    assert code == 0
    return folder, out


@pytest.fixture(scope="module")
def simulated() -> ad.AnnData:
    """120 cells of three types × 60 genes with counts in a layer and zeros in X; a cell has no label, a gene no count."""
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=120)
    mean = 3 * rng.gamma(1.0, 1.0, (3, 60))
    counts = rng.poisson(mean[kind] * rng.gamma(2.0, 0.5, (120, 1)) + 0.1)
    counts[:, 7] = 0
    obs = pd.DataFrame({"type": pd.Categorical([f"t{k}" for k in kind]), "score": rng.random(120)})
    obs.loc[3, "type"] = None
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(sparse.csr_matrix((120, 60), dtype=np.float32), obs=obs, layers={"counts": counts})
    adata.obsm["X_umap"] = rng.random((120, 2))
    adata.obs["leiden"] = "before"
    adata.var["symbol"] = [f"symbol {gene}" for gene in range(60)]
    return adata


@pytest.fixture(scope="module")
def file(simulated, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "cells.h5ad"
    simulated.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def from_file(file, tmp_path_factory):
    """Run the command line on a file, once: the folder that was written and what was printed."""
    out = tmp_path_factory.mktemp("out") / "results"
    arguments = ("--layer", "counts", "--n-neighbors", 10, "--resolution", 0.5, "--gene-symbols", "symbol")
    code, text, err = run(file, *arguments, "--out", out)
    assert code == 0
    assert "warning: Without a non-zero value, and therefore isolated: 1 of 60 genes (7).\n" in err
    return out, text


def test_example_writes_three_files(example):
    folder, out = example
    assert names(folder) == {"kronax-quickstart"}
    assert names(folder / "kronax-quickstart") == FILES | {"quickstart.h5ad"}
    assert "\nWritten to kronax-quickstart: quickstart.h5ad, umap.png, gene_modules.png.\n" in out
    assert "FILE.h5ad" in out.strip().split("\n")[-1]


def test_the_next_lines_work_as_printed(example, monkeypatch):
    folder, out = example
    lines = out.split("Next, in Python:\n")[1].split("Your own data")[0]
    assert "kronax-quickstart/quickstart.h5ad" in lines
    monkeypatch.setattr(plt, "show", lambda: None)
    names = {}
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(textwrap.dedent(lines), names)
    plt.close("all")
    module = names["adata"].var["gene_module"]
    assert printed.getvalue().split() == list(module.index[module == "0"])
    assert "paga" in names["adata"].uns


def test_example_figures_are_small_enough_to_send(example):
    folder, _ = example
    for name in FILES:
        data = (folder / "kronax-quickstart" / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < 300_000


def test_example_report(example):
    folder, out = example
    adata = ad.read_h5ad(folder / "kronax-quickstart" / "quickstart.h5ad")
    fit = adata.uns["med_magma"]
    assert adata.shape == (700, 765)
    assert number(out, "cells") == "700"
    assert number(out, "genes") == "765"
    assert number(out, "non-zeros") == f"{adata.X.count_nonzero():,}"
    assert number(out, "EM steps") == str(fit["n_iter"])
    assert number(out, "converged") == {True: "yes", False: "no"}[bool(fit["converged"])]
    assert re.search("EM steps +1   matrix scaling and one fit, the default\n", out)
    assert re.search("converged +yes   matrix scaling and fit reached their goals\n", out)
    assert float(number(out, "seconds")) > 0
    assert number(out, "clusters") == str(adata.obs["med_magma_leiden"].nunique())
    assert number(out, "gene modules") == str(adata.var["gene_module"].nunique())


def test_example_agreement(example):
    folder, out = example
    adata = ad.read_h5ad(folder / "kronax-quickstart" / "quickstart.h5ad")
    ours = adjusted_mutual_info_score(adata.obs["bulk_labels"], adata.obs["med_magma_leiden"])
    assert number(out, "resolution 1") == f"{ours:.3f}"
    theirs = adata.copy()
    sc.pp.pca(theirs)
    sc.pp.neighbors(theirs, transformer="sklearn")
    sc.tl.leiden(theirs, flavor="igraph", n_iterations=2, directed=False)
    theirs = adjusted_mutual_info_score(theirs.obs["bulk_labels"], theirs.obs["leiden"])
    assert number(out, "resolution 1", 1) == f"{theirs:.3f}"
    assert float(number(out, "best")) >= round(ours, 3)
    assert float(number(out, "best", 1)) >= round(theirs, 3)
    assert "0.1, 0.2, …, 2.0" in out


def test_example_goes_on_in_scanpy(example):
    folder, _ = example
    adata = ad.read_h5ad(folder / "kronax-quickstart" / "quickstart.h5ad")
    assert np.isfinite(adata.obsm["X_med_magma_umap"]).all()
    sc.tl.paga(adata, groups="med_magma_leiden", neighbors_key="med_magma")
    assert adata.uns["paga"]["connectivities"].nnz


def test_nothing_is_overwritten(example):
    folder, _ = example
    before = (folder / "kronax-quickstart" / "umap.png").read_bytes()
    with contextlib.chdir(folder):
        code, out, err = run()
    assert (code, out) == (2, "")
    assert "kronax-quickstart is already there" in err
    assert (folder / "kronax-quickstart" / "umap.png").read_bytes() == before


def test_file(from_file, simulated):
    folder, out = from_file
    assert names(folder) == FILES | {"cells.h5ad"}
    adata = ad.read_h5ad(folder / "cells.h5ad")
    assert adata.uns["med_magma"]["params"]["n_neighbors"] == 10
    assert adata.uns["med_magma"]["params"]["layer"] == "counts"
    assert adata.uns["med_magma_leiden"]["params"]["resolution"] == 0.5
    np.testing.assert_array_equal(adata.layers["counts"], simulated.layers["counts"])
    np.testing.assert_array_equal(adata.obsm["X_umap"], simulated.obsm["X_umap"])
    assert set(adata.obs["leiden"]) == {"before"}
    assert number(out, "non-zeros") == f"{np.count_nonzero(simulated.layers['counts']):,}"


def test_no_agreement_without_labels(from_file):
    assert "greement" not in from_file[1]


def test_labels_of_a_file(file, tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "RESOLUTIONS", [0.5, 1.0])
    arguments = ("--layer", "counts", "--label", "type", "--n-top-genes", 40, "--n-neighbors", 10, "--resolution", 0.7)
    code, out, _ = run(file, *arguments, "--out", tmp_path / "results")
    assert code == 0
    assert 0.5 < float(number(out, "best")) <= 1
    chosen = ad.read_h5ad(tmp_path / "results" / "cells.h5ad")
    labelled = chosen.obs[chosen.obs["type"].notna()]
    asked = adjusted_mutual_info_score(labelled["type"], labelled["med_magma_leiden"])
    assert number(out, "resolution 0.7") == f"{asked:.3f}"
    assert re.search(r"resolution 0\.7 .* the clusters in the file\n", out)
    assert re.search(r"resolution 1 .*\d\n", out)
    logs = ad.read_h5ad(file)
    logs.X = logs.layers["counts"].astype(np.float32)
    sc.pp.normalize_total(logs)
    sc.pp.log1p(logs)
    sc.pp.highly_variable_genes(logs, flavor="seurat", n_top_genes=40)
    assert list(chosen.var_names) == list(logs.var_names[logs.var["highly_variable"]])


@pytest.mark.filterwarnings("ignore:Without a non-zero value")
def test_many_cells_are_not_compared(simulated, monkeypatch):
    monkeypatch.setattr(quickstart, "MOST_COMPARED", 119)
    options = {"n_top_genes": 60, "n_neighbors": 10, "resolution": 0.5}
    result = quickstart.run(simulated.copy(), layer="counts", label="type", **options)
    assert result.agreement is None
    assert "up to 119 cells" in quickstart.report(result)


def test_logarithms_are_taken_once(rng):
    counts = rng.poisson(5.0, (20, 30)).astype(np.float32)
    expected = ad.AnnData(counts.copy())
    sc.pp.normalize_total(expected)
    sc.pp.log1p(expected)
    for values in (counts, counts.astype(int), sparse.csr_matrix(counts)):
        found = quickstart.log_normalised(ad.AnnData(values), None).X
        np.testing.assert_allclose(found.toarray() if sparse.issparse(found) else found, expected.X, rtol=1e-6)
    np.testing.assert_array_equal(quickstart.log_normalised(expected, None).X, expected.X)
    scaled = quickstart.log_normalised(ad.AnnData(counts * 100.5), None).X  # not whole, and no logarithms either
    assert scaled.max() < 50


def test_negative_values(rng):
    with pytest.raises(__main__.InputError, match="negative values"):
        quickstart.check(ad.AnnData(rng.normal(size=(20, 30))), None, None)


def test_cells_without_a_label_do_not_count():
    blocks = sparse.block_diag([np.ones((10, 10)) - np.eye(10)] * 3, format="csr")
    adata = ad.AnnData(obs=pd.DataFrame(index=np.arange(30).astype(str)), obsp={"connectivities": blocks})
    adata.uns["graph"] = {"connectivities_key": "connectivities", "distances_key": "distances"}
    labels = pd.Series(np.repeat([0.0, 1.0, 2.0], 10), index=adata.obs_names)
    labels.iloc[[3, 14]] = np.nan
    assert quickstart.agreement(adata, "graph", labels, [0.5, 1.0])[1.0] == pytest.approx(1.0)


def test_a_gene_graph_without_edges(simulated, tmp_path, monkeypatch):
    learn = quickstart.tl.med_magma

    def without_edges(adata, **options):
        learn(adata, **options)
        adata.varp["med_magma_connectivities"] = sparse.csr_matrix((adata.n_vars, adata.n_vars))

    monkeypatch.setattr(quickstart.tl, "med_magma", without_edges)
    simulated.write_h5ad(tmp_path / "cells.h5ad")
    out = tmp_path / "results"
    code, text, _ = run(tmp_path / "cells.h5ad", "--layer", "counts", "--n-neighbors", 10, "--out", out)
    assert code == 0
    assert names(out) == {"cells.h5ad", "umap.png"}
    assert re.search("gene modules +none   the gene graph has no edges\n", text)
    assert "cells.h5ad, umap.png." in text
    assert "gene_module" not in text
    assert "gene_module" not in ad.read_h5ad(out / "cells.h5ad").var


def test_what_is_told_on_the_way(simulated, monkeypatch):
    told = []
    monkeypatch.setattr(quickstart.logger, "info", lambda text, *values: told.append(text % values))
    monkeypatch.setattr(quickstart, "RESOLUTIONS", [0.5, 1.0])
    options = {"n_top_genes": 60, "n_neighbors": 10, "resolution": 0.7}
    with pytest.warns(UserWarning, match="1 of 60 genes"):
        quickstart.run(simulated.copy(), layer="counts", label="type", **options)
    first, found, *steps = told[-5:]
    assert first == "gene modules"
    assert found.startswith("gene_modules: 59 genes in ")
    assert steps == ["clusters", "UMAP", "comparison with 'type': two graphs, each clustered at 3 resolutions"]


def test_warnings_are_told_once_and_plainly(capsys):
    with __main__.plain_warnings():
        for _ in range(3):
            warnings.warn("Names\nare not unique.", UserWarning, stacklevel=2)
    assert capsys.readouterr().err == "warning: Names are not unique.\n"


@pytest.mark.parametrize("where", ["run", "write"])
def test_interrupted(file, tmp_path, monkeypatch, where):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    if where == "write":
        monkeypatch.setattr(quickstart, "run", lambda *_args, **_options: None)
        monkeypatch.setattr(quickstart, "report", lambda _result: "")
    monkeypatch.setattr(quickstart, where, interrupt)
    code, _, err = run(file, "--layer", "counts", "--out", tmp_path / "new" / "results")
    assert code == 130
    assert err.endswith("interrupted; nothing was written\n")
    assert names(tmp_path) == set()


def test_parents_are_made(tmp_path, monkeypatch):
    def write(result, folder, name):
        (folder / "umap.png").write_text("whole")
        return ["umap.png"]

    monkeypatch.setattr(quickstart, "write", write)
    with contextlib.chdir(tmp_path):
        __main__.write(None, __main__.Path("a/b/../c/results"), "cells")
        __main__.write(None, __main__.Path("here"), "cells")
    assert names(tmp_path) == {"a", "here"}
    assert names(tmp_path / "a" / "c" / "results") == {"umap.png"}


@pytest.mark.parametrize(("n_labels", "length"), [(2, 3), (60, 40)])
def test_legends_lie_beside_the_points(rng, n_labels, length):
    labels = [f"${number}_".ljust(length, "x") for number in rng.integers(n_labels, size=300)]
    obs = pd.DataFrame({quickstart.CLUSTERS: pd.Categorical(rng.integers(9, size=300).astype(str)), "label": labels})
    obs.index = obs.index.astype(str)
    obs.loc["5", "label"] = None
    adata = ad.AnnData(obs=obs, obsm={quickstart.UMAP: rng.normal(size=(300, 2))})
    figure = quickstart.umap_figure(quickstart.Result(adata, 1, 1.0, 1.0, "label", None))
    first, second = figure.axes
    assert first.get_window_extent().x1 <= first.get_legend().get_window_extent().x0
    assert first.get_legend().get_window_extent().x1 < second.get_window_extent().x0
    assert second.get_window_extent().x1 <= second.get_legend().get_window_extent().x0
    assert second.get_legend().get_window_extent().x1 <= figure.bbox.x1
    assert len(second.get_legend().get_texts()) == len(set(labels))


def test_missing_file_and_others(tmp_path):
    (tmp_path / "text.h5ad").write_text("cells")
    with h5py.File(tmp_path / "other.h5ad", "w") as other:
        other["values"] = [1.0]
    with h5py.File(tmp_path / "several.h5ad", "w") as several:
        for part in ("mod", "obs", "var"):
            several.create_group(part)
    for path, reason in [
        ("none.h5ad", "is not there"),
        (".", "is a folder"),
        ("text.h5ad", "cannot be read as an .h5ad file"),
        ("other.h5ad", "is not an .h5ad file"),
        ("several.h5ad", "holds several modalities. In Python, kx.tl.med_magma(mudata.read_h5mu(path))"),
    ]:
        code, out, err = run(tmp_path / path, "--out", tmp_path / "results")
        assert (code, out) == (2, "")
        assert err.startswith("python -m kronax: error: ")
        assert reason in err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--layer", "none"],
            r"'none' not found in `adata\.layers`\. Available keys: \['counts'\]\. The matrix may be in X: leave --layer out",
        ),
        (["--layer", "counts", "--label", "none"], r"'none' not found in `adata\.obs`"),
        (["--layer", "counts", "--label", "score"], "has 120 distinct values"),
        (["--layer", "counts", "--gene-symbols", "none"], r"'none' not found in `adata\.var`"),
        (["--layer", "counts", "--n-neighbors", "120"], "`n_neighbors` must be an integer from 2 to 119"),
        ([], "has non-zero values in 0 of 120 cells"),
    ],
)
def test_what_does_not_fit_the_file(file, tmp_path, arguments, reason):
    code, out, err = run(file, *arguments, "--out", tmp_path / "results")
    assert (code, out) == (2, "")
    assert re.search(reason, err)
    assert names(tmp_path) == set()


def test_folders_that_cannot_be_made(file, tmp_path):
    for out, reason in [
        (tmp_path, "is already there"),
        (file, "is already there"),
        (file / "results", "cannot be made: Not a directory"),
    ]:
        code, _, err = run(file, "--layer", "counts", "--out", out)
        assert code == 2
        assert reason in err


def test_all_files_or_none(tmp_path, monkeypatch):
    def fail(result, folder, name):
        (folder / "umap.png").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quickstart, "write", fail)
    for out in (tmp_path / "results", tmp_path / "new" / "results"):
        with pytest.raises(__main__.InputError, match="cannot be written: No space left on device"):
            __main__.write(None, out, "cells")
        assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "arguments",
    [["--n-top-genes", "1"], ["--n-neighbors", "1.5"], ["--resolution", "0"], ["--resolution", "x"], ["a", "b"]],
)
def test_options_that_are_none(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        __main__.main(arguments)
    assert "error:" in capsys.readouterr().err


def test_options_without_a_file(tmp_path):
    with contextlib.chdir(tmp_path):
        code, _, err = run("--label", "type")
    assert code == 2
    assert "belong to a file" in err


def test_help_shows_a_call(capsys):
    with pytest.raises(SystemExit, match="0"):
        __main__.main(["--help"])
    assert "python -m kronax cells.h5ad --layer counts" in capsys.readouterr().out


def test_module_is_the_program():
    command = [sys.executable, "-m", "kronax", "none.h5ad"]
    refused = subprocess.run(command, capture_output=True, check=False, encoding="utf-8", timeout=100)
    assert refused.returncode == 2
    assert refused.stderr.startswith("python -m kronax: error: ")
