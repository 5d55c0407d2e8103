"""The command line: `rlforge train | eval | recipe | reward | runs | serve | bench`."""

from rlforge.cli.app import main

__all__ = ["main"]
