"""``python -m kronax``: one run on the example, two on files, and everything that can be refused."""

import contextlib
import io
import re
import textwrap
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib import pyplot as plt
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score

import kronax as kx
from kronax import __main__
from kronax._cli import graphs
from kronax._cli.refusals import InputError

FIGURES = {"gene_modules.png", "umap.png"}
TABLES = {"edges.csv", "genes.csv"}


def number(report: str, name: str, column: int = 0) -> str:
    """Read a field of the report."""
    return re.search(rf"^  {name} .*$", report, re.MULTILINE).group()[len(name) + 2 :].split()[column]


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def example(run, tmp_path_factory):
    """Run the quickstart in an empty folder, once: the folder and what was printed."""
    folder = tmp_path_factory.mktemp("example")
    with contextlib.chdir(folder):
        code, out, _ = run()
    assert code == 0
    return folder, out


@pytest.fixture(scope="module")
def simulated() -> ad.AnnData:
    """120 cells of three types × 60 genes.

    Counts in a layer and zeros in X; a cell has no label, a gene no count and another one two; there are batches, and
    names like those of our results.
    """
    rng = np.random.default_rng(0)
    kind = rng.integers(3, size=120)
    mean = 3 * rng.gamma(1.0, 1.0, (3, 60))
    counts = rng.poisson(mean[kind] * rng.gamma(2.0, 0.5, (120, 1)) + 0.1)
    counts[:, 7] = counts[:, 8] = 0
    counts[:2, 8] = 9
    obs = pd.DataFrame({"type": pd.Categorical([f"t{k}" for k in kind]), "score": rng.random(120)})
    obs.loc[3, "type"] = None
    obs["med_magma_leiden"] = rng.permutation(np.repeat(["x", "y", "z"], 40))
    obs["donor_id"] = np.repeat(["d1", "d2"], 60)
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
def from_file(run, file, tmp_path_factory):
    """Run the command line on a file whose labels have the name of our clusters, once: the folder, and what was printed."""
    out = tmp_path_factory.mktemp("out") / "results"
    arguments = ("--layer", "counts", "--n-neighbors", 10, "--gene-symbols", "symbol", "--n-top-genes", 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "RESOLUTIONS", [0.5, 1.0])
        code, text, err = run(file, *arguments, "--label", "med_magma_leiden", "--resolution", 0.7, "--out", out)
    assert code == 0
    return out, text, err


@pytest.fixture(scope="module")
def from_batches(run, simulated, tmp_path_factory):
    """Run it on a file whose genes have factors of their own in one of two batches, once: the folder, and what was printed."""
    path = tmp_path_factory.mktemp("batches")
    adata, rng = simulated.copy(), np.random.default_rng(1)
    adata.layers["counts"][60:] *= rng.integers(1, 9, 60)
    adata.write_h5ad(path / "cells.h5ad")
    arguments = ("--layer", "counts", "--n-neighbors", 10, "--n-top-genes", 40, "--label", "type")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "RESOLUTIONS", [0.5, 1.0])
        code, text, err = run(path / "cells.h5ad", *arguments, "--batch", "donor_id", "--out", path / "results")
    assert code == 0, err
    return path / "results", text


@pytest.fixture(scope="module")
def from_raw(run, simulated, tmp_path_factory):
    """Run it on a file with scaled values in X and counts in raw alone, once: the folder, and what was printed."""
    path = tmp_path_factory.mktemp("raw")
    adata = ad.AnnData(simulated.layers["counts"].astype(float), simulated.obs[["type"]], simulated.var)
    adata.raw = adata.copy()
    adata = adata[:, 10:].copy()
    sc.pp.scale(adata)
    adata.write_h5ad(path / "scaled.h5ad")
    with contextlib.chdir(path):
        code, text, err = run("scaled.h5ad", "--n-neighbors", 10, "--min-cells", 1)
    assert code == 0
    return path / "kronax-scaled", text, err


def test_room(room, file, from_file, tmp_path):
    size = (from_file[0] / "cells.h5ad").stat().st_size
    arguments = ("--layer", "counts", "--n-neighbors", 10, "--n-top-genes", 40, "--out", tmp_path / "results")
    assert room(size - 1, file, *arguments) <= 4 * size + 2**20


def test_example_writes_five_files(example):
    folder, out = example
    assert names(folder) == {"kronax-quickstart"}
    assert names(folder / "kronax-quickstart") == FIGURES | TABLES | {"quickstart.h5ad"}
    assert "\nWritten to kronax-quickstart: quickstart.h5ad, umap.png, gene_modules.png, edges.csv, genes.csv.\n" in out
    assert "FILE.h5ad" in out.strip().split("\n")[-1]


def test_the_next_lines_work_as_printed(example, monkeypatch):
    folder, out = example
    lines = out.split("Next, in Python:\n")[1].split("Your own data")[0]
    assert '"kronax-quickstart/quickstart.h5ad"' in lines
    monkeypatch.setattr(plt, "show", lambda: None)
    names = {}
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(textwrap.dedent(lines), names)
    plt.close("all")
    module, table = names["adata"].var["gene_module"], names["adata"].uns["gene_module"]["table"]
    largest = table.index[~table["noise"]][0]
    assert printed.getvalue().split() == list(module.index[module == largest])
    assert names["adata"].uns["paga"]["connectivities"].nnz


@pytest.mark.parametrize(
    ("noise", "printed", "said"),
    [
        ([False, False], "0", "the largest module\n"),
        ([True, False], "1", "the largest module that is not noise\n"),
        ([True, True], "0", "the largest module, which is noise, as all are\n"),
    ],
)
def test_the_module_printed_is_called_what_it_is(noise, printed, said):
    adata = ad.AnnData(np.ones((2, 3)), var={"gene_module": pd.Categorical(["0", "0", "1"])})
    adata.uns["gene_module"] = {"table": pd.DataFrame({"noise": noise}, index=["0", "1"])}
    assert f'adata.var["gene_module"] == "{printed}"])  # {said}' in graphs.following(adata, Path("a.h5ad")) + "\n"


def test_example_figures_are_small_enough_to_send(example):
    folder, _ = example
    for name in FIGURES:
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
    assert np.isfinite(adata.obsm["X_med_magma_umap"]).all()
    assert "atches" not in out


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


def test_example_says_what_is_gained(example):
    """Random factors change nothing of ours; modules are called by what they are."""
    _, out = example
    for name in ("cell edges kept", "gene edges kept"):
        assert number(out, name) == "100.0%"
    assert number(out, "clusters \\(AMI\\)") == "1.000"
    assert float(number(out, "cell edges kept", 1).rstrip("%")) < 80
    assert float(number(out, "clusters \\(AMI\\)", 1)) < 1
    modules = re.findall(r"^    module \d+ · (.*?)  +(.*?)  +", out, re.MULTILINE)
    hubs = {group: set(names.split(", ")) for group, names in modules}
    assert hubs["CD56+ NK"] & {"GNLY", "NKG7"}
    assert hubs["CD19+ B"] & {"CD79A", "CD79B", "MS4A1"}


def test_example_tables(example):
    """They are those of ``kx.get``, and the report counts the edges that are more than noise."""
    folder, out = example
    adata = ad.read_h5ad(folder / "kronax-quickstart" / "quickstart.h5ad")
    path = folder / "kronax-quickstart"
    for name, expected in (("edges.csv", kx.get.edges(adata)), ("genes.csv", kx.get.modules(adata))):
        texts = dict.fromkeys([column for column in expected if "module" in column or column == "source"], str)
        found = pd.read_csv(path / name, dtype=texts)
        pd.testing.assert_frame_equal(found, expected.astype(texts), check_dtype=False, rtol=1e-5)
    edges = kx.get.edges(adata)
    n = int((edges["q_value"] <= 0.05).sum())
    assert n > 20
    assert re.search(rf"gene edges +{n}   more than noise \(q ≤ 0.05\), of {len(edges):,} between nearest neighb", out)


def test_tables_have_the_names_asked_for_and_counts_of_the_layer(from_file):
    """X of the file is empty."""
    edges, genes = (pd.read_csv(from_file[0] / name) for name in ("edges.csv", "genes.csv"))
    for names in (edges["source"], edges["target"], genes["gene"]):
        assert names.str.startswith("symbol ").all()
    assert genes["share_of_cells"].max() > 0.5


def test_large_data_are_spared(from_file, tmp_path, monkeypatch):
    adata = ad.read_h5ad(from_file[0] / "cells.h5ad")
    results, chosen = graphs.Results(tmp_path / "results"), graphs.Chosen(adata, "counts", adata, 60, 2, 0)
    monkeypatch.setattr(graphs.multiplied, "MOST_CELLS", 119)
    assert graphs.under_factors(chosen, results, 10, 1.0) == [
        "  What random factors change is measured up to 119 cells."
    ]
    assert not results.missing


def test_nothing_is_overwritten(run, example):
    folder, _ = example
    before = (folder / "kronax-quickstart" / "umap.png").read_bytes()
    with contextlib.chdir(folder):
        code, out, err = run()
    assert (code, out) == (2, "")
    assert "kronax-quickstart is already there" in err
    assert (folder / "kronax-quickstart" / "umap.png").read_bytes() == before


def test_what_the_file_had_is_still_there(from_file, simulated):
    folder, _, err = from_file
    assert names(folder) == FIGURES | TABLES | {"cells.h5ad"}
    adata = ad.read_h5ad(folder / "cells.h5ad")
    assert adata.uns["med_magma"]["params"]["n_neighbors"] == 10
    assert adata.uns["med_magma"]["params"]["layer"] == "counts"
    assert adata.uns["med_magma_leiden"]["params"]["resolution"] == 0.7
    np.testing.assert_array_equal(adata.layers["counts"], simulated[:, adata.var_names].layers["counts"])
    np.testing.assert_array_equal(adata.obsm["X_umap"], simulated.obsm["X_umap"])
    assert set(adata.obs["leiden"]) == {"before"}
    assert list(adata.obs["med_magma_leiden_before"]) == list(simulated.obs["med_magma_leiden"])
    assert "kept: obs['med_magma_leiden'] of the file is now obs['med_magma_leiden_before']" in err


def test_agreement_is_with_the_labels_given(from_file, simulated):
    folder, out, _ = from_file
    clusters = ad.read_h5ad(folder / "cells.h5ad").obs["med_magma_leiden"]
    asked = adjusted_mutual_info_score(simulated.obs["med_magma_leiden"], clusters)
    assert abs(asked) < 0.2
    assert number(out, "resolution 0.7") == f"{asked:.3f}"
    assert re.search(r"resolution 0\.7 .* the clusters in the file\n", out)
    assert re.search(r"resolution 1 .*\d\n", out)
    assert "Agreement with 'med_magma_leiden_before'" in out


def test_rare_genes_are_left_out_and_the_most_variable_kept(from_file, file):
    folder, out, _ = from_file
    assert re.search("genes +40   the most variable of 58; 2 with values in fewer than 3 cells left out\n", out)
    chosen = ad.read_h5ad(folder / "cells.h5ad")
    assert number(out, "non-zeros") == f"{np.count_nonzero(chosen.layers['counts']):,}"
    logs = ad.read_h5ad(file)
    logs.X = logs.layers["counts"].astype(np.float32)
    sc.pp.filter_genes(logs, min_cells=3)
    sc.pp.normalize_total(logs)
    sc.pp.log1p(logs)
    sc.pp.highly_variable_genes(logs, flavor="seurat", n_top_genes=40)
    assert list(chosen.var_names) == list(logs.var_names[logs.var["highly_variable"]])


def test_batches_are_named(from_file):
    assert (
        "  Batches? obs['donor_id'] has 2 values. If clusters follow them, run it again with\n  --batch donor_id: "
        in from_file[1]
    )


def test_batches_have_scales_of_their_own(from_batches):
    adata = ad.read_h5ad(from_batches[0] / "cells.h5ad")
    assert adata.uns["med_magma"]["params"]["batch_key"] == "donor_id"
    assert adata.varm["med_magma_log_scale"].shape == (40, 2)
    whole = ad.read_h5ad(from_batches[0].parent / "cells.h5ad")
    logs = whole[:, np.count_nonzero(whole.layers["counts"], axis=0) >= 3].copy()
    logs.X = logs.layers["counts"].astype(np.float32)
    sc.pp.normalize_total(logs)
    sc.pp.log1p(logs)
    chosen = {}
    for key in ("donor_id", None):
        table = sc.pp.highly_variable_genes(logs, n_top_genes=40, batch_key=key, inplace=False)
        chosen[key] = list(logs.var_names[table["highly_variable"]])
    assert list(adata.var_names) == chosen["donor_id"] != chosen[None]
    anew = adata.copy()
    kx.tl.med_magma(anew, layer="counts", batch_key="donor_id", n_neighbors=10)
    assert abs(anew.obsp["med_magma_connectivities"] - adata.obsp["med_magma_connectivities"]).max() < 1e-6


def test_report_on_batches(from_batches):
    folder, out = from_batches
    adata = ad.read_h5ad(folder / "cells.h5ad")
    fit = adata.uns["med_magma"]
    assert "Batches?" not in out
    assert re.search(r"^  batches +2   obs\['donor_id'\]: every gene", out, re.MULTILINE)
    assert number(out, "spread") == f"{fit['batch_spread'].max():.2f}" != "0.00"
    assert number(out, "matched") == f"{fit['batch_matched'].min():.0%}"
    assert number(out, "mixing") == f"{kx.metrics.batch_mixing(adata, label_key='type', batch_key='donor_id'):.2f}"
    code = [line.strip() for line in out.split("If batches stay apart")[1].splitlines() if line.startswith("    ")][:3]
    assert code == [
        'found = harmonypy.run_harmony(adata.obsm["X_med_magma"], adata.obs, "donor_id")',
        'adata.obsm["X_corrected"] = found.Z_corr  # harmonypy 2; transposed before',
        'kx.pp.neighbors(adata, use_rep="X_corrected", key_added="corrected")',
    ]


def test_batches_without_labels_that_several_of_them_have(from_batches, tmp_path):
    adata = ad.read_h5ad(from_batches[0] / "cells.h5ad")
    chosen = graphs.Chosen(adata, "counts", adata, 60, 2, 0, "donor_id")
    results = graphs.Results(tmp_path / "results")
    found = kx.metrics.assortativity(adata, labels="donor_id", neighbors_key="med_magma")
    assert number("\n".join(graphs.mixed(chosen, results, None)), "assortativity") == f"{found:.2f}"
    lines = "\n".join(graphs.mixed(chosen, results, "donor_id"))
    assert re.search("mixing +none   no value of 'donor_id' is found in two batches\n", lines)
    adata.uns["med_magma"]["batches"] = ["d1"]
    assert graphs.mixed(chosen, results, None) == []
    assert not results.missing


def test_batches_whose_name_is_that_of_a_result(simulated):
    adata = simulated.copy()
    names = graphs.clear_names(adata, "type", None, "med_magma_leiden")
    assert names == ("type", None, "med_magma_leiden_before")
    assert list(adata.obs[names[2]]) == list(simulated.obs["med_magma_leiden"])


def test_columns_are_looked_for_before_the_matrix_is_read(simulated, monkeypatch):
    monkeypatch.setattr(graphs, "read_any", lambda *_args, **_options: pytest.fail("read"))
    for columns in ({"label": "none"}, {"label": None, "batch": "none"}):
        with pytest.raises(InputError, match="'none' not found"):
            graphs.check(simulated, "counts", **columns)


def test_what_looks_like_batches():
    n = 12
    obs = pd.DataFrame(
        {
            "batch_effect_score": np.arange(n) % 2,
            "sample": [f"s{i}" for i in range(n)],  # one for every cell
            "Library": "one",
            "plate": np.arange(n) % 3,
            "orig.ident": np.arange(n) % 2,
        }
    )
    assert graphs.batch_column(obs, None) == "plate"
    assert graphs.batch_column(obs, "plate") == "orig.ident"
    assert graphs.batch_column(obs[["batch_effect_score", "sample", "Library"]], None) is None


def test_raw_is_read_where_x_is_scaled(from_raw, simulated):
    folder, out, err = from_raw
    assert "X has negative values, as scaled ones are: the values and the 60 genes of raw are used in its place" in err
    assert re.search("genes +59   1 with values in no cell left out\n", out)
    adata = ad.read_h5ad(folder / "scaled.h5ad")
    assert "7" not in adata.var_names
    np.testing.assert_array_equal(adata.X, simulated[:, adata.var_names].layers["counts"])
    assert "greement" not in out


def test_all_genes_are_kept_in_raw(from_file, from_raw, simulated):
    """As they were read, of the layer or of raw, rare ones included; the chosen ones are not kept twice."""
    for adata in (
        ad.read_h5ad(from_file[0] / "cells.h5ad"),
        ad.read_h5ad(from_raw[0] / "scaled.h5ad"),
    ):
        assert list(adata.raw.var_names) == list(simulated.var_names)
        assert list(adata.raw.var["symbol"]) == list(simulated.var["symbol"])
        np.testing.assert_array_equal(np.asarray(adata.raw.X), simulated.layers["counts"])
    assert adata.n_vars < 60


def test_what_is_not_kept_in_raw(simulated):
    """A raw of the file stays; none is made where no gene was left out."""
    logs = simulated[:, :40].copy()
    whole = graphs.Chosen(simulated.copy(), "counts", logs, 60, 0, 0)
    graphs.keep_all_genes(whole, simulated)
    assert whole.adata.raw is None
    logs.raw = simulated[:, :7].copy()
    part = graphs.Chosen(logs, "counts", logs, 60, 0, 0)
    graphs.keep_all_genes(part, simulated)
    assert part.adata.raw.n_vars == 7


def test_marker_genes_by_the_lines_printed(from_file, simulated, tmp_path, monkeypatch):
    """Logarithms of normalised counts, all genes; names as asked."""
    adata = ad.read_h5ad(from_file[0] / "cells.h5ad")
    adata.obs["med_magma_leiden"] = pd.Categorical(simulated.obs["type"].cat.codes.clip(0).astype(str))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    code = graphs.following(adata, tmp_path / "cells.h5ad", "counts", "symbol").split("Next, in Python:\n")[1]
    assert 'gene_symbols="symbol"' in code
    monkeypatch.setattr(plt, "show", lambda: None)
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(textwrap.dedent(code), names)
    plt.close("all")
    markers = names["markers"]
    assert markers.n_vars == 60 and {"log1p", "rank_genes_groups"} <= set(markers.uns)
    np.testing.assert_allclose(
        np.expm1(markers.X).sum(axis=1), np.median(simulated.layers["counts"].sum(axis=1)), rtol=1e-4
    )
    assert printed.getvalue().strip() == " ".join(adata.var["symbol"][adata.var["gene_module"] == "0"])


def test_markers_where_nothing_was_left_out(from_file):
    adata = ad.read_h5ad(from_file[0] / "cells.h5ad")
    adata.raw, adata.obs["med_magma_leiden"] = None, ["0", "1"] * 60
    assert graphs._markers(adata, "counts", None)[:4] == [
        "markers = adata.copy()",
        'markers.X = markers.layers["counts"].copy()',
        "sc.pp.normalize_total(markers)",
        "sc.pp.log1p(markers)",
    ]
    adata.X = np.log1p(adata.layers["counts"])
    assert [line.split("(")[0] for line in graphs._markers(adata, None, None)] == [
        *("markers = adata.copy", "sc.tl.rank_genes_groups", "sc.pl.rank_genes_groups")
    ]
    adata.obs["med_magma_leiden"] = ["0"] * 119 + ["1"]  # scanpy refuses a cluster of one cell
    assert graphs._markers(adata, None, None) == []


def test_genes_are_called_as_asked(tmp_path):
    """Also in warnings, and in each of these once."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1.0, 2.0, (2, 30))[rng.integers(2, size=60)])
    counts[:, 3] = 0
    adata = ad.AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    adata.var["symbol"] = [f"symbol {gene}" for gene in range(30)]
    chosen, results = graphs.Chosen(adata, None, adata, 30, 0, 0), graphs.Results(tmp_path / "results")
    before = list(adata.var_names)
    with pytest.warns(UserWarning, match=r"1 of 30 genes \(symbol 3\)") as told:
        graphs.learn(chosen, results, 5, 1.0, "symbol")
        graphs.under_factors(chosen, results, 5, 1.0)
    assert sum("1 of 30 genes" in str(warning.message) for warning in told) == 1
    assert list(adata.var_names) == before


def test_raw_by_request(simulated):
    adata = ad.AnnData(np.ones((120, 50)), simulated.obs[["type"]])
    with pytest.raises(InputError, match="The file has no raw"):
        graphs.with_matrix(adata, None, raw=True)
    adata.raw = ad.AnnData(np.full((120, 60), 2.0), adata.obs)
    assert graphs.with_matrix(adata, None, raw=False) is adata
    assert graphs.with_matrix(adata, None, raw=True).shape == (120, 60)
    adata.X = None
    assert (graphs.with_matrix(adata, None, raw=False).X == 2).all()
    adata.layers["scaled"] = np.full((120, 50), -1.0)
    assert graphs.with_matrix(adata, None, raw=False).n_vars == 60
    adata.layers["counts"] = np.ones((120, 50))
    assert graphs.with_matrix(adata, "counts", raw=False) is adata
    with pytest.raises(
        InputError, match=r"X is missing\. Name one of the layers \['counts'\] with --layer, or .* by --raw"
    ):
        graphs.with_matrix(adata, None, raw=False)


@pytest.mark.parametrize(
    ("raw", "advice"),
    [(None, "with --layer."), (1.0, "take raw, with its own genes, by --raw"), (-1.0, "raw has negative")],
)
def test_negative_values(rng, raw, advice):
    adata = ad.AnnData(rng.normal(size=(20, 30)))
    if raw is not None:
        adata.raw = ad.AnnData(np.full((20, 30), raw), adata.obs)
    with pytest.raises(InputError, match=f"negative values.*{advice}"):
        graphs.check(adata, None, None)


def test_cells_without_a_label_do_not_count(from_file, simulated):
    folder, _, _ = from_file
    adata = ad.read_h5ad(folder / "cells.h5ad")
    chosen = graphs.Chosen(adata, "counts", graphs.selection.log_normalised(adata, "counts"), 60, 2, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "RESOLUTIONS", [0.5, 1.0])
        found = graphs.compare(chosen, "type", 10, 0.7)
    known = adata.obs["type"].notna()
    asked = adjusted_mutual_info_score(adata.obs["type"][known], adata.obs["med_magma_leiden"][known])
    assert list(found.index) == [0.5, 1.0, 0.7]
    assert found.loc[0.7, "med_magma"] == pytest.approx(asked)


def test_what_fails_after_the_graphs_costs_nothing_else(run, file, tmp_path, monkeypatch):
    """Every step after the graphs fails, of every library: the graphs are written, and the exit code tells."""

    def fail(*_args, **_options):
        raise RuntimeError("of another library")

    for owner, name in [
        (graphs.tl, "gene_modules"),
        (sc.tl, "umap"),
        (graphs, "compare"),
        (graphs.pl, "gene_modules"),
        (graphs.multiplied, "kept_by_graphs"),
    ]:
        monkeypatch.setattr(owner, name, fail)
    arguments = ("--layer", "counts", "--n-neighbors", 10, "--n-top-genes", 40, "--label", "type")
    code, out, err = run(file, *arguments, "--out", tmp_path / "results")
    assert code == 3
    assert names(tmp_path / "results") == {"cells.h5ad", "edges.csv"}
    assert "med_magma_connectivities" in ad.read_h5ad(tmp_path / "results" / "cells.h5ad").obsp
    assert "warning: a UMAP cannot be made: of another library.\n" in err
    assert err.endswith(
        "reasons above: gene modules, a UMAP, a comparison with 'type', a comparison under random factors.\n"
    )
    assert "gene_module" not in out.split("Next, in Python")[1]


def test_a_figure_that_fails(run, from_file, tmp_path, monkeypatch, capsys):
    folder, _, _ = from_file
    adata = ad.read_h5ad(folder / "cells.h5ad")
    results = graphs.Results(tmp_path / "results")
    results.write_first("cells.h5ad", adata.write_h5ad)

    def fail(*_args, **_options):
        raise ValueError("no font")

    monkeypatch.setattr(graphs.pl, "gene_modules", fail)
    graphs.draw(adata, results, "type", None)
    assert names(tmp_path / "results") == {"cells.h5ad", "umap.png"}
    assert "warning: gene_modules.png cannot be made: no font.\n" in capsys.readouterr().err


def test_cells_without_counts_are_in_no_cluster(run, simulated, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "RESOLUTIONS", [0.5, 1.0])
    adata = simulated[:, 10:].copy()
    adata.layers["counts"][20:] = 0
    adata.write_h5ad(tmp_path / "empty.h5ad")
    arguments = ("--layer", "counts", "--n-neighbors", 5, "--min-cells", 1, "--label", "type")
    code, out, err = run(tmp_path / "empty.h5ad", *arguments, "--out", tmp_path / "results")
    assert code == 0, err
    assert names(tmp_path / "results") == FIGURES | TABLES | {"empty.h5ad"}
    found = ad.read_h5ad(tmp_path / "results" / "empty.h5ad")
    clusters = found.obs["med_magma_leiden"]
    assert clusters[20:].isna().all() and clusters[:20].notna().all()
    assert list(clusters.cat.categories) == [str(number) for number in range(clusters.nunique())]
    assert re.search(
        rf"clusters +{clusters.nunique()}   Leiden, resolution 1; 100 cells are in none, without counts\n", out
    )
    known = clusters.notna() & found.obs["type"].notna()
    asked = adjusted_mutual_info_score(found.obs["type"][known], clusters[known])
    assert number(out, "resolution 1") == f"{asked:.3f}"
    assert "sc.tl.paga" not in out


def test_clusters_that_no_figure_has_room_for(from_file, tmp_path, capsys):
    adata = ad.read_h5ad(from_file[0] / "cells.h5ad")
    adata.obs["med_magma_leiden"] = pd.Categorical(adata.obs_names)
    results = graphs.Results(tmp_path / "results")
    results.write_first("cells.h5ad", adata.write_h5ad)
    graphs.draw(adata, results, None, None)
    assert results.missing == ["gene_modules.png"]
    assert "has 120 groups; at most 100 can be drawn" in capsys.readouterr().err


def test_a_gene_graph_without_edges(from_file, tmp_path):
    folder, _, _ = from_file
    adata = ad.read_h5ad(folder / "cells.h5ad")
    del adata.var["gene_module"]
    results = graphs.Results(tmp_path / "results")
    results.write_first("cells.h5ad", adata.write_h5ad)
    adata.varp["med_magma_connectivities"] *= 0.0
    adata.varp["med_magma_connectivities"].eliminate_zeros()
    graphs.draw(adata, results, None, None)
    graphs.tabulate(adata, results, None)
    assert results.names == ["cells.h5ad", "umap.png"] and not results.missing
    assert "gene_module" not in graphs.following(adata, folder)
    args = __main__.parser.parse([str(folder / "cells.h5ad")])[1]
    text = graphs.report(graphs.Chosen(adata, "counts", adata, 60, 2, 0), 1.0, args, None, None)
    assert re.search("gene modules +none   the gene graph has no edges\n", text)


def test_many_cells_are_not_compared(from_file, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_COMPARED", 119)
    folder, _, _ = from_file
    adata = ad.read_h5ad(folder / "cells.h5ad")
    args = __main__.parser.parse([str(folder / "cells.h5ad")])[1]
    text = graphs.report(graphs.Chosen(adata, "counts", adata, 60, 2, 0), 1.0, args, "type", None)
    assert "Agreement with 'type' is measured up to 119 cells." in text


@pytest.mark.parametrize("where", ["read_cells", "write_h5ad"])
def test_interrupted(run, file, tmp_path, monkeypatch, where):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(graphs, "learn", lambda *_args: 1.0)
    monkeypatch.setattr(graphs.files, where, interrupt)
    code, _, err = run(file, "--layer", "counts", "--out", tmp_path / "new" / "results")
    assert code == 130
    assert err.endswith("interrupted; nothing was written\n")
    assert names(tmp_path) == set()


def test_interrupted_after_the_data(run, file, tmp_path, monkeypatch):
    def interrupt(*_args, **_options):
        raise __main__.terminal.Terminated(15)

    monkeypatch.setattr(graphs, "learn", lambda *_args: 1.0)
    monkeypatch.setattr(graphs, "report", interrupt)
    code, _, err = run(file, "--layer", "counts", "--out", tmp_path / "results")
    assert code == 143
    assert err.endswith(f"interrupted; {tmp_path / 'results'} has cells.h5ad\n")
    assert names(tmp_path / "results") == {"cells.h5ad"}


def test_what_cannot_be_written_is_told_before_the_work(run, file, tmp_path, monkeypatch):
    worked = []
    monkeypatch.setattr(graphs, "learn", lambda *_args: worked.append(1))
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(file.read_bytes())
    with h5py.File(broken, "r+") as content:
        content.move("var/symbol", "var/_index2")
        content["var"].attrs["column-order"] = np.array(["_index2"], dtype=h5py.string_dtype())
        content.move("var/_index", "var/names")
        content["var"].attrs["_index"] = "names"
        content.move("var/_index2", "var/_index")
        content["var"].attrs["column-order"] = np.array(["_index"], dtype=h5py.string_dtype())
    code, _, err = run(broken, "--layer", "counts", "--out", tmp_path / "results")
    assert code == 2 and not worked
    assert "can be read, but its content cannot be written to a new file" in err
    assert names(tmp_path) == {"broken.h5ad"}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["--layer", "none"],
            r"'none' not found in `adata\.layers`\. Available keys: \['counts'\]\. The matrix may be in X: leave --layer out",
        ),
        (["--layer", "counts", "--label", "none"], r"'none' not found in `adata\.obs`"),
        (["--layer", "counts", "--label", "score"], "has 120 distinct values"),
        (["--layer", "counts", "--batch", "none"], r"'none' not found in `adata\.obs`"),
        (["--layer", "counts", "--batch", "score"], "has 120 values for 120 cells: most batches are a single cell"),
        (["--layer", "counts", "--batch", "type"], "is missing in 1 of 120 cells; every cell needs a batch"),
        (["--layer", "counts", "--gene-symbols", "none"], r"'none' not found in `adata\.var`"),
        (["--layer", "counts", "--n-neighbors", "120"], "`n_neighbors` must be an integer from 2 to 119"),
        (["--layer", "counts", "--min-cells", "121"], "Only 0 of 60 genes have values in 121 cells or more"),
        (["--layer", "counts", "--raw"], "give one of them"),
        (["--raw"], "The file has no raw"),
        ([], "has non-zero values in 0 of 120 cells"),
    ],
)
def test_what_does_not_fit_the_file(run, file, tmp_path, arguments, reason):
    code, out, err = run(file, *arguments, "--out", tmp_path / "results")
    assert (code, out) == (2, "")
    assert re.search(reason, err)
    assert names(tmp_path) == set()


def test_a_file_without_a_matrix(run, simulated, tmp_path):
    adata = simulated.copy()
    adata.X = None
    adata.write_h5ad(tmp_path / "cells.h5ad")
    code, _, err = run(tmp_path / "cells.h5ad", "--out", tmp_path / "results")
    assert code == 2
    assert err.endswith("The file has no X. Name one of the layers ['counts'] with --layer.\n")


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty_files(run, tmp_path, shape):
    ad.AnnData(np.zeros(shape)).write_h5ad(tmp_path / "empty.h5ad")
    code, _, err = run(tmp_path / "empty.h5ad", "--out", tmp_path / "results")
    assert code == 2
    assert "at least 2 of each are needed" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--n-top-genes", "1"],
        ["--n-neighbors", "1.5"],
        ["--min-cells", "0"],
        ["--resolution", "0"],
        ["--resolution", "x"],
        ["a", "b"],
    ],
)
def test_options_that_are_none(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        __main__.main(arguments)
    assert "error:" in capsys.readouterr().err


def test_options_without_a_file(run, tmp_path):
    for words in (["--label", "type"], ["--batch", "donor"], ["--raw"]):
        with contextlib.chdir(tmp_path):
            code, _, err = run(*words)
        assert code == 2
        assert "belong to a file" in err


def test_read_only_files_are_refused_before_any_result(run, tmp_path):
    code, out, err = run(tmp_path / "none.h5ad", "--out", tmp_path / "results")
    assert (code, out) == (2, "")
    assert (
        err
        == f"python -m kronax: error: {tmp_path / 'none.h5ad'} is not there; an .h5ad file or a .zarr store is needed.\n"
    )
