"""``python -m kronax effects``: one run on a simulated screen, and what can be refused."""

import contextlib
import re
import textwrap
from typing import get_args

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

import kronax as kx
from kronax._cli import effects, files, parser
from kronax.pp import _effects

COLUMNS = ("--treatment", "perturbation", "--context", "cell_line")
SCREEN = (*COLUMNS, "--control", "control", "--replicate", "plate")


@pytest.fixture(scope="module")
def screen():
    return kx.datasets.screen(n_treatments=9, n_genes=40, n_cells=25, random_state=0)


@pytest.fixture(scope="module")
def file(screen, tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    screen.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def found(run, file):
    """The folder, and what was printed."""
    with contextlib.chdir(file.parent):
        code, text, err = run("effects", file.name, *SCREEN)
    assert code == 0 and "warning" not in err
    return file.parent / "kronax-screen-effects", text


def test_writes_what_the_function_returns(screen, found):
    folder, _ = found
    assert {path.name for path in folder.iterdir()} == {"effects.h5ad", "effects.csv", "effects.png", "report.txt"}
    expected = kx.pp.effects(
        screen, treatment_key="perturbation", control="control", context_key="cell_line", replicate_key="plate"
    )
    back = ad.read_h5ad(folder / "effects.h5ad")
    np.testing.assert_array_equal(back.X, expected.X)
    pd.testing.assert_frame_equal(back.obs, expected.obs)


def test_room(room, file, found, tmp_path):
    size = (found[0] / "effects.h5ad").stat().st_size
    assert room(size - 1, "effects", file, *SCREEN, "--out", tmp_path / "results") <= 4 * size + 2**20


def test_table_has_the_surest_first(found):
    folder, _ = found
    table, obs = pd.read_csv(folder / "effects.csv"), ad.read_h5ad(folder / "effects.h5ad").obs
    assert list(table) == ["treatment", "context", "n_cells", "n_replicates", "effect_size", "acd", "p_value"]
    assert table["p_value"].duplicated().any() and len(table) == len(obs) == 27
    pd.testing.assert_frame_equal(table, table.sort_values(["p_value", "effect_size"], ascending=[True, False]))
    alike = table.set_index(table["treatment"] + "|" + table["context"]).loc[obs.index]
    np.testing.assert_array_equal(alike["n_cells"], obs["n_cells"])
    np.testing.assert_allclose(alike["p_value"], obs["p_value"], rtol=1e-5)


def test_report(screen, found):
    folder, text = found
    report = (folder / "report.txt").read_text(encoding="utf-8")
    assert report in text
    table = pd.read_csv(folder / "effects.csv")
    for line in (
        rf"cells +{screen.n_obs:,}   in the file, controls included",
        r"controls +control",
        r"treatments +9   beside the controls",
        r"contexts +3   line1, line2, line3",
        r"effects +27   of a treatment in a context, 40 genes each",
        r"replicates +3   each, median; 0 have one",
        rf"sure +{(table['p_value'] <= 0.1).sum()} ",
        rf"  {table.treatment[0]}\|{table.context[0]} +p ",
    ):
        assert re.search(f"^  {line}", report, re.MULTILINE), line


def test_the_next_lines_work_as_printed(run, file, found):
    """The command completes the effects, and the lines of Python do the same."""
    _, text = found
    command, code = text.split("Next: python -m kronax ")[1].split("\nOr, in Python:\n")
    names = {}
    with contextlib.chdir(file.parent):
        assert run(*command.split(), "--folds", 0)[0] == 0
        exec(textwrap.dedent(code), names)
    p_values = pd.read_csv(file.parent / "kronax-screen-effects" / "effects.csv")["p_value"]
    assert command.endswith(" --p-max 0.1") and len(names["effects"]) == (p_values <= 0.1).sum() < len(p_values)
    completed, expected = pd.read_csv(file.parent / "kronax-effects" / "profiles.csv"), kx.get.profiles(names["mdata"])
    np.testing.assert_allclose(completed[list(expected.var_names)], expected.X, rtol=1e-4, atol=1e-5)


def test_effects_without_a_p_value_do_not_count_as_unsure(screen):
    keys = {"treatment_key": "perturbation", "control": "control", "context_key": "cell_line"}
    found = kx.pp.effects(screen, **keys, method="log_fold_change")
    found.obs["p_value"] = np.where(np.arange(27) < 4, [0.1, 0.05, 0.2, 0.3] + 23 * [0.0], np.nan)
    report = effects.report(found, 1, by_replicates=True)
    assert re.search("sure +2   50% of those with a p-value", report)
    assert list(effects.sure(found, 0.1).obs_names) == list(found.obs_names[:2])


def test_without_replicates(run, file, tmp_path, caplog):
    words = (*COLUMNS, "--control", "control", "--method", "log_fold_change")
    code, text, _ = run("effects", file, *words, "--out", tmp_path / "out")
    assert code == 0 and "effects.png is not drawn" in caplog.text
    assert "that needs replicates, --replicate" in text and "p-max" not in text and "sure" not in text
    assert list(pd.read_csv(tmp_path / "out" / "effects.csv")) == [
        *("treatment", "context", "n_cells", "n_replicates", "effect_size")
    ]


def test_bulk_data(run, screen, tmp_path):
    """Rows are replicates on a logarithmic scale."""
    bulk = sc.get.aggregate(screen, by=["perturbation", "cell_line", "plate"], func="mean")
    bulk = ad.AnnData(np.log2(1 + bulk.layers["mean"]), bulk.obs)
    bulk.write_h5ad(tmp_path / "bulk.h5ad")
    words = (*SCREEN, "--rows", "replicates", "--no-log", "--method", "z_score")
    assert run("effects", tmp_path / "bulk.h5ad", *words, "--out", tmp_path / "out")[0] == 0
    keys = {"treatment_key": "perturbation", "control": "control", "context_key": "cell_line", "replicate_key": "plate"}
    expected = kx.pp.effects(bulk, **keys, rows="replicates", log=False, method="z_score")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "out" / "effects.h5ad").X, expected.X)


def test_doses_that_are_combined_are_told(run, screen, tmp_path):
    cells, words = screen.copy(), dict(zip(SCREEN[::2], SCREEN[1::2], strict=True))
    is_control = (cells.obs["perturbation"] == "control").to_numpy()
    cells.obs["dose"] = np.where(is_control, 0.0, np.resize([0.1, 10.0], len(cells)))
    cells.write_h5ad(tmp_path / "cells.h5ad")
    code, _, err = run("effects", tmp_path / "cells.h5ad", *SCREEN, "--out", tmp_path / "together")
    assert code == 0 and "warning: `adata.obs['dose']` differs between rows of 27 of 27 pairs" in err
    exec(re.findall("`(names = .*?)`", err)[0], {"adata": cells})
    option, column = re.findall("on the command line (--[a-z]*) '(.*?)'", err)[0]
    cells.write_h5ad(tmp_path / "cells.h5ad")
    words = [word for pair in (words | {option: column}).items() for word in pair]
    code, _, err = run("effects", tmp_path / "cells.h5ad", *words, "--min-cells", 5, "--out", tmp_path / "apart")
    assert code == 0 and "differs between rows" not in err
    assert len(pd.read_csv(tmp_path / "apart" / "effects.csv")) == 54


def _logarithms(adata):
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return adata


def _negative(adata):
    adata.X = adata.X.toarray() - 1
    return adata


def _without_controls(adata):
    return adata[~((adata.obs["perturbation"] == "control") & (adata.obs["cell_line"] == "line2"))].copy()


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (None, ("--treatment", "perturb"), "Key 'perturb' not found in `adata.obs`. Did you mean 'perturbation'?"),
        (None, ("--context", "line"), "Key 'line' not found in `adata.obs`."),
        (None, ("--replicate", "plates"), "Did you mean 'plate'?"),
        (None, ("--layer", "counts"), "Key 'counts' not found in `adata.layers`."),
        (None, ("--control", "Controls"), "Did you mean 'control'?"),
        (None, ("--replicate", "cell_line"), "--treatment, --context, --replicate must name different columns"),
        (
            None,
            ("--min-cells", "1000"),
            "--min-cells leaves out samples of few cells; if every row is a replicate, pass --rows",
        ),
        (_without_controls, (), "No control (control) in line2 of `adata.obs['cell_line']`."),
        (_logarithms, (), "looks like logarithms"),
        (
            _logarithms,
            (),
            "Name the layer of counts with --layer; or, to average the values as they are, pass --no-log.",
        ),
        (_negative, (), "negative values; counts are needed"),
    ],
)
def test_refused(run, screen, file, tmp_path, change, words, message):
    path = file
    if change is not None:
        path = tmp_path / "changed.h5ad"
        change(screen.copy()).write_h5ad(path)
    given = dict(zip(SCREEN[::2], SCREEN[1::2], strict=True)) | dict([words] if words else [])
    arguments = [word for pair in given.items() for word in pair]
    code, out, err = run("effects", path, *arguments, "--out", tmp_path / "new" / "out")
    assert (code, out) == (2, "") and message in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("where", ["read_cells", "write_h5ad"])
def test_interrupted(run, file, tmp_path, monkeypatch, where):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, where, interrupt)
    code, _, err = run("effects", file, *SCREEN, "--out", tmp_path / "new" / "results")
    assert code == 130 and err.endswith("interrupted; nothing was written\n")
    assert not list(tmp_path.iterdir())


def test_methods_are_those_of_the_function():
    assert get_args(_effects.Method) == parser.EFFECTS
