"""`rlforge bench NAME`: one measurement, one line."""

from __future__ import annotations

from typing import Annotated

import typer

from rlforge.cli.output import AsJson, print_json


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which measurement; `list` names them.")],
    as_json: AsJson = False,
) -> None:
    """Measure a part against the raw libraries it stands on."""
    # a bench loads torch and vLLM
    from rlforge.bench import BENCHES
    from rlforge.bench.runner import as_record, as_text, run_bench

    if name == "list":
        names = sorted(BENCHES)
        if as_json:
            print_json({"benches": names})
        else:
            print("\n".join(names))
        return
    result = run_bench(name)
    if as_json:
        print_json(as_record(result))
    else:
        print(as_text(result))
