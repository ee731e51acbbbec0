"""What may import what, checked by machine: the contracts of pyproject.toml, and what is really loaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("al_dgm", "pipelines") for path in (PROJECT / package).rglob("*.py"))
ONLY_IN = {"ray": ["al_dgm/distributed/"], "mlflow": ["al_dgm/tracking/mlflow.py"], "dvc": [], "dvclive": []}
HEAVY = ("torch", "ray", "mlflow", "dvc", "matplotlib", "sklearn")
LIGHT = (
    "al_dgm.config",
    "al_dgm.data",
    "al_dgm.data.prepared",
    "al_dgm.labelling",
    "al_dgm.labelling.rounds",
    "al_dgm.learning.labels",
    "al_dgm.learning.layout",
    "al_dgm.learning.outcome",
    "al_dgm.tracking.address",
    "al_dgm.distributed.address",
    "al_dgm.cli",
    "al_dgm.cli.status",
    "al_dgm.cli.doctor",
    "pipelines.prepare",
    "pipelines.seed_set",
    "pipelines.label",
    "pipelines.train",
)


def imported(source):
    """The top-level names that a module's text imports, wherever in it that is."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"__import__", "importlib.import_module"}:
            names |= {
                ast.literal_eval(word).partition(".")[0] for word in node.args[:1] if isinstance(word, ast.Constant)
            }
    return names


def trespassers(package, sources):
    """Of (relative path, text), the paths that import ``package`` though they are not its place."""
    return [
        path for path, text in sources if package in imported(text) and not path.startswith(tuple(ONLY_IN[package]))
    ]


def loaded(*modules):
    """Module -> heavy packages that a fresh interpreter has loaded once it and those before it are imported."""
    code = (
        "import importlib, sys\n"
        f"for module in {modules!r}:\n"
        "    importlib.import_module(module)\n"
        f"    print(module, *(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, text=True, capture_output=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return {module: heavy for module, *heavy in lines}


def test_the_import_contracts_hold():
    """Layers, and who may import Ray, MLflow, DVC and torch."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], cwd=PROJECT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_service_is_imported_in_one_place(package):
    """Ray in `distributed`, MLflow in `tracking.mlflow`, DVC nowhere; imports inside functions count."""
    sources = [(path.relative_to(PROJECT).as_posix(), path.read_text()) for path in SOURCES]
    assert len(sources) > 50
    assert trespassers(package, sources) == []


@pytest.mark.parametrize(
    "line",
    [
        "import ray",
        "import ray.train as t",
        "from ray import train",
        "def f():\n    import ray",
        "if TYPE_CHECKING:\n    from ray.train import Result",
        "importlib.import_module('ray.tune')",
        "__import__('ray')",
    ],
)
def test_the_scan_can_fail(line):
    """The test of the test: each way to import is seen, and only where it is forbidden."""
    assert trespassers("ray", [("al_dgm/learning/fit.py", line)]) == ["al_dgm/learning/fit.py"]
    assert trespassers("ray", [("al_dgm/distributed/train.py", line)]) == []


def test_the_scan_lets_others_pass():
    """Neither similar names nor words in strings are imports."""
    harmless = "import rayon, al_dgm.ray\nfrom . import ray\nfrom .ray import x\nray = 'import ray'"
    assert trespassers("ray", [("al_dgm/learning/fit.py", harmless)]) == []


def test_what_needs_no_model_starts_without_heavy_packages():
    """A stage that asks people or an oracle, and the command line, start in a second."""
    assert loaded(*LIGHT) == {module: [] for module in LIGHT}


def test_the_check_of_loaded_packages_can_fail():
    """The test of the test: a module of models loads torch."""
    assert loaded("al_dgm.errors", "al_dgm.models") == {"al_dgm.errors": [], "al_dgm.models": ["torch"]}
