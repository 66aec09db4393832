"""``python -m kronax``: graphs of the cells and genes in a file; ``python -m kronax complete``: the profiles it lacks."""

import os
import signal
import sys
from collections.abc import Sequence

from kronax._cli import parser, terminal
from kronax._cli.refusals import InputError
from kronax._cli.results import Results
from kronax._cli.terminal import note


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: those of ``--help``."""
    os.environ["MPLBACKEND"] = "agg"  # no window opens, and a notebook's terminal names a backend that may not be there
    results = None
    with terminal.plain():
        try:
            job, args = parser.parse(sys.argv[1:] if argv is None else argv)
            results = Results(args.out)
            job(args, results)
        except InputError as error:
            note(f"python -m kronax: error: {error}")
            return 2
        except KeyboardInterrupt as stop:
            there = (
                f"{results.folder} has {', '.join(results.names)}"
                if results and results.names
                else "nothing was written"
            )
            note(f"\ninterrupted; {there}")
            return 128 + (stop.args[0] if isinstance(stop, terminal.Terminated) else signal.SIGINT)
        if results.missing:
            note(f"Not made, for the reasons above: {', '.join(results.missing)}.")
            return 3
        return 0


if __name__ == "__main__":
    if code := main():
        os._exit(code)  # at a normal exit, HDF5 crashes over a file that it could not finish, and the code is lost
