"""``python -m kronax complete``: one run on a file, and what can be refused."""

import contextlib
import io
import re
import textwrap

import h5py
import mudata
import numpy as np
import pytest
from matplotlib import pyplot as plt

import kronax as kx
from kronax import __main__, _complete, _tensor


def run(*argv: object) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = __main__.main(["complete", *(str(word) for word in argv)])
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    mdata = kx.datasets.drug_response(n_treatments=12, n_contexts=4, n_genes=6, missing=0.25)
    path = tmp_path_factory.mktemp("file") / "responses.h5mu"
    with _tensor.without_pulling():
        mdata.write(path)
    return path


@pytest.fixture(scope="module")
def completed(file, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "results"
    code, text, err = run(file, "--out", out)
    assert code == 0 and "warning" not in err
    return out, text


def test_writes_the_completed_file(file, completed):
    out, _ = completed
    assert {path.name for path in out.iterdir()} == {"responses.h5mu", "report.txt"}
    with _tensor.without_pulling():
        back, expected = mudata.read_h5mu(out / "responses.h5mu"), mudata.read_h5mu(file)
        kx.tl.complete_tensor(expected)
    for context, adata in expected.mod.items():
        np.testing.assert_array_equal(back[context].layers["completed"], adata.layers["completed"])


def test_report(completed):
    out, text = completed
    report = (out / "report.txt").read_text(encoding="utf-8")
    assert report in text
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


def test_the_next_lines_work_as_printed(completed, monkeypatch):
    _, text = completed
    monkeypatch.setattr(plt, "show", lambda: None)
    names = {}
    exec(textwrap.dedent(text.split("Next, in Python:\n")[1]), names)
    plt.close("all")
    assert names["profiles"].n_obs == 48


def test_method_layer_and_fallbacks(tmp_path):
    mdata = kx.datasets.drug_response(n_treatments=8, n_contexts=3, n_genes=5, missing=0.25)
    for adata in mdata.mod.values():
        adata.layers["constant"] = np.where(np.isnan(adata.X), np.nan, 1.0)
    with _tensor.without_pulling():
        mdata.write(tmp_path / "a.h5mu")
    with contextlib.chdir(tmp_path):
        code, text, err = run("a.h5mu", "--method", "dnpp", "--layer", "constant")
    assert code == 0 and (tmp_path / "kronax-a" / "a.h5mu").is_file()
    assert re.search(r"^  fallbacks +6   6 by context mean$", text, re.MULTILINE)
    assert "confidence" not in text
    assert "warning: 18 measured profiles are constant" in err


def test_refused(file, tmp_path):
    with h5py.File(tmp_path / "plain.h5mu", "w") as plain:
        plain["obs"] = 1
    (tmp_path / "text.h5mu").write_text("no")
    out = tmp_path / "out"
    for arguments, words in (
        ((tmp_path / "none.h5mu",), "is not there; an .h5mu file is needed"),
        ((tmp_path,), "is a folder"),
        ((tmp_path / "text.h5mu",), "cannot be read as an .h5mu file"),
        ((tmp_path / "plain.h5mu",), "it has no modalities. kx.pp.tensor makes them"),
        ((file, "--layer", "counts"), "Key 'counts' not found in `mdata['line0'].layers`. Available keys: ['truth']"),
    ):
        code, _, err = run(*arguments, "--out", out)
        assert code == 2 and words in err
        assert not out.exists()
    code, _, err = run(file, "--out", tmp_path)
    assert code == 2 and "is already there" in err
    with pytest.raises(SystemExit):
        run(file, "--method", "parafac")


@pytest.mark.parametrize("where", ["read", "write"])
def test_interrupted(file, tmp_path, monkeypatch, where):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_complete, where, interrupt)
    code, _, err = run(file, "--method", "mean_1d", "--out", tmp_path / "new" / "results")
    assert code == 130 and err.endswith("interrupted; nothing was written\n")
    assert not list(tmp_path.iterdir())
