"""Words of the command line: help and errors come before anything that takes long to import."""

import json
import subprocess
import sys

import pytest

HEAVY = ["anndata", "jax", "kronax._logging", "mudata", "numpy", "pandas", "scanpy", "scipy"]
EFFECTS = ["effects", "no.h5ad", "--treatment", "a", "--context", "c"]
ASK = f"""
import contextlib, io, json, sys
from kronax import __main__
with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
    try:
        code = __main__.main(sys.argv[1:])
    except SystemExit as stop:
        code = stop.code
print(json.dumps([code, out.getvalue() + err.getvalue(), [name for name in {HEAVY} if name in sys.modules]]))
"""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "python -m kronax effects --help"),
        (["effects", "--help"], 0, "--replicate OBS_COLUMN"),
        (["complete", "--version"], 0, "kronax "),
        (["effects", "a.h5ad"], 2, "the following arguments are required: --treatment, --control, --context"),
        (["complete", "a.h5mu", "--method", "parafac"], 2, "invalid choice: 'parafac' (choose from"),
        (["complete", "a.h5mu", "--folds", "1"], 2, "'1' is neither 0 nor a whole number of at least 2"),
        (["complete", "a.h5mu", "--p-max", "2"], 2, "'2' is not a number above 0 and up to 1"),
        (["no_such_file.h5ad"], 2, "no_such_file.h5ad is not there"),
        (["effects.h5ad"], 2, "effects.h5ad is not there"),
        (["effect", "a.h5ad"], 2, "There is no command 'effect'. Did you mean 'effects'? python -m kronax effects"),
        (["Effects", "a.h5ad", "--context", "b"], 2, "no command 'Effects'. Did you mean 'effects'?"),
        (["completed"], 2, "no command 'completed'. Did you mean 'complete'?"),
        (["--out", "z", "effects", "a.h5ad"], 2, "The command comes first: python -m kronax effects"),
        (["a.h5ad", "b.h5ad"], 2, "unrecognized arguments: b.h5ad"),
        ([*EFFECTS, "--control", "a", "b"], 2, "give it once for each: --control a --control b"),
        (
            [*EFFECTS[:1], "--control", "a", "b c", *EFFECTS[1:]],
            2,
            "give it once for each: --control a --control 'b c'",
        ),
        ([*EFFECTS, "--control", "a", "--plate", "b"], 2, "unrecognized arguments: --plate b"),
        (["effects", "no.h5ad", "--treatment", "a", "--control", "b", "--context", "c"], 2, "no.h5ad is not there"),
    ],
)
def test_nothing_heavy_is_imported(words, code, said, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ASK, *words], capture_output=True, check=False, cwd=tmp_path, text=True, timeout=300
    )
    found, text, heavy = json.loads(done.stdout)
    assert (found, heavy) == (code, []), done.stderr
    assert said in " ".join(text.split())
