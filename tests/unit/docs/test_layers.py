"""The rule that one file imports Ray is held over every other."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def modules(folder: Path) -> set[str]:
    """Modules and packages right below a folder."""
    found = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    return found - {"__init__"}


def test_every_module_but_one_is_forbidden_to_import_ray() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (rule,) = [contract for contract in contracts if contract.get("forbidden_modules") == ["ray"]]
    rooms = {f"rlforge.{name}" for name in modules(ROOT / "rlforge") - {"cluster"}}
    placement = {f"rlforge.cluster.{name}" for name in modules(ROOT / "rlforge" / "cluster") - {"on_ray"}}
    assert set(rule["source_modules"]) == rooms | placement
