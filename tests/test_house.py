"""The rules of the house that are about the repository itself: what is imported, where, and how.

Each rule is read off the source (or off a fresh interpreter), so that it fails for whoever breaks
it, on the line where it is broken.
"""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import dspa_nn
from tests.conftest import CHECKED_ROOMS, REPOSITORY, UNCHECKED_ROOMS

PACKAGE = REPOSITORY / "dspa_nn"

# From the bottom up. A room knows nothing of those above it; modules of one room know each other.
ROOMS = (
    ("_version", "errors", "shapes"),
    ("graph",),
    ("checks", "imports", "progress", "shown"),
    ("files", "provenance", "shipping"),
    ("extensions", "hub"),
    ("triples", "judges"),
    ("prompts",),
    ("models",),
    ("saes",),
    ("maps",),
    ("ndif",),
    ("counts",),
    ("theory",),
    ("costs",),
    ("steering",),
    ("baselines",),
    ("evaluation",),
    ("mt_bench", "audit"),
    ("receipt", "tuning", "personas"),
    ("serving", "harness"),
    ("demo", "reproduce", "chat", "checkup"),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {name: level for level, room in enumerate(ROOMS) for name in room}

HEAVY = ("beartype", "sae_lens", "transformer_lens", "pandas", "datasets", "pyarrow", "scipy")
# Lines of a module at most, and those beyond which it is listed here.
LONGEST_MODULE, USUAL_MODULE = 400, 300
LONG_MODULES = ("dspa_nn.counts.table", "dspa_nn.steering.dspa")


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def room_of(module: str) -> str:
    """`dspa_nn.graph.edit` lies in the room `graph`, `dspa_nn` itself in `__init__`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Every (line, module) that a file imports, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            inside = PACKAGE in path.parents
            assert not (inside and node.level), f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                # `from dspa_nn import counting` imports a module, `... import DSPA` a name.
                inner = f"{node.module}.{alias.name}"
                is_module = node.module == "dspa_nn" and alias.name in LEVEL
                yield node.lineno, inner if is_module else str(node.module)


def everywhere(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LIGHT = """
import importlib, json, pkgutil, sys, time
import torch
start = time.perf_counter()
import dspa_nn
seconds = time.perf_counter() - start
for name in dspa_nn.__all__:
    getattr(dspa_nn, name)
for module in pkgutil.iter_modules(dspa_nn.__path__):
    importlib.import_module(f"dspa_nn.{module.name}")
print(json.dumps([seconds, sorted(sys.modules)]))
"""


@pytest.mark.slow
def test_rule_8_importing_loads_nothing_heavy_and_is_quick() -> None:
    seconds, loaded = json.loads(run_python(LIGHT))
    heavy = [name for name in loaded if name.split(".")[0] in HEAVY]
    models = [name for name in loaded if re.match(r"transformers\.models\.\w+\.modeling_", name)]
    assert not heavy + models
    # A busy machine may be slow once; a slow import is slow every time.
    for _ in range(2):
        if seconds > 2:
            seconds = json.loads(run_python(LIGHT))[0]
    assert seconds <= 2


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(
            "import nnsight, dspa_nn; dspa_nn.DSPA; import warnings; "
            "warnings.simplefilter('ignore'); from sae_lens import SAE",
            id="nnsight first, SAELens late",
            marks=pytest.mark.slow,
        ),
        pytest.param("import dspa_nn; dspa_nn.DSPA; import nnsight", id="dspa_nn first"),
    ],
)
def test_rule_8_imports_work_in_either_order(code: str) -> None:
    assert run_python(f"{code}; print(hasattr(object(), 'save'))").split() == ["True"]


def test_a_module_holds_one_idea() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in modules()}
    assert max(lengths.values()) <= LONGEST_MODULE
    assert {name for name, lines in lengths.items() if lines > USUAL_MODULE} == set(LONG_MODULES)


def test_rooms_are_packages_or_modules_of_the_root() -> None:
    there = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    assert set(LEVEL) <= there
    rooms = {room.removeprefix("dspa_nn.") for room in (*CHECKED_ROOMS, *UNCHECKED_ROOMS)}
    assert rooms == set(LEVEL) - {"__init__"}


def test_imports_go_downwards_only() -> None:
    rooms = {path: room_of(name_of(path)) for path in modules()}
    assert set(rooms.values()) <= set(LEVEL), "give the new room a place in ROOMS"
    upwards = [
        f"{path}:{line} imports {module}"
        for path, room in rooms.items()
        for line, module in imports_of(path)
        if module.split(".")[0] == "dspa_nn" and LEVEL[room_of(module)] > LEVEL[room]
    ]
    assert not upwards


def packages() -> list[Path]:
    """Packages with a public face; `graph` has none, since its modules travel one by one."""
    folders = [path.parent for path in sorted(PACKAGE.glob("*/__init__.py"))]
    return [folder for folder in folders if folder.name != "graph"]


@pytest.mark.parametrize("folder", packages(), ids=lambda folder: folder.name)
def test_a_package_lists_its_public_names(folder: Path) -> None:
    face = importlib.import_module(f"dspa_nn.{folder.name}")
    assert all(hasattr(face, name) for name in face.__all__)


def test_other_packages_are_imported_by_their_face() -> None:
    faces = {folder.name for folder in packages()}
    deep = [
        f"{path}:{line} imports {module}"
        for path in everywhere("dspa_nn", "recipes", "benchmarks", "tests")
        # A package's tests lie in a folder of its name, and may look inside.
        for others in [faces - {path.relative_to(REPOSITORY).parts[1]}]
        for line, module in imports_of(path)
        if re.match(r"dspa_nn\.\w+\.\w+", module) and module.split(".")[1] in others
    ]
    assert not deep


def test_pages_import_from_the_faces() -> None:
    faces = "|".join(folder.name for folder in packages())
    deep = [
        f"{page.name}: {found}"
        for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
        for found in re.findall(
            rf"^ *(?:from|import) dspa_nn\.(?:{faces})\.\w+", page.read_text(), re.M
        )
    ]
    assert not deep


@pytest.mark.parametrize("folder", packages(), ids=lambda folder: folder.name)
def test_no_submodule_bears_the_name_of_a_callable_of_its_package(folder: Path) -> None:
    # Importing the submodule would put it in the callable's stead.
    face = importlib.import_module(f"dspa_nn.{folder.name}")
    exported = [name for name in getattr(face, "__all__", ()) if callable(getattr(face, name))]
    assert not [name for name in exported if (folder / f"{name}.py").exists()]


GRAPH = sorted((PACKAGE / "graph").glob("*.py"))


def nodes_of(paths: Sequence[Path]) -> Iterator[tuple[str, Path, Any]]:
    """Every node of the syntax trees, with where it stands."""
    for path in paths:
        for node in ast.walk(tree_of(path)):
            yield f"{path}:{getattr(node, 'lineno', 0)}", path, node


def test_what_travels_needs_torch_and_nnsight_alone() -> None:
    allowed = {"torch", "nnsight", "math", "collections", "typing"}
    foreign = [
        f"{path}:{line}: {module}"
        for path in GRAPH
        for line, module in imports_of(path)
        if module.split(".")[0] not in allowed and not module.startswith("dspa_nn.graph")
    ]
    assert not foreign
    for where, _, node in nodes_of(GRAPH):
        assert not getattr(node, "decorator_list", None), f"{where}: a decorator"
        is_super = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "super"
        assert not is_super, f"{where}: super() is not found on the server"


def test_one_module_of_graph_knows_nnsights_internals() -> None:
    # So that the next version of nnsight breaks one file. `save` alone is public.
    others = [path for path in GRAPH if path.stem != "adapter"]
    names = [
        f"{where}: {node.module}.{alias.name}"
        for where, _, node in nodes_of(others)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "nnsight"
        for alias in node.names
        if (node.module, alias.name) != ("nnsight", "save")
    ]
    imported = [
        f"{where}: {alias.name}"
        for where, _, node in nodes_of(others)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.split(".")[0] in ("nnsight", "greenlet")
    ]
    assert not names + imported


# What nnsight offers to everybody: `from nnsight import ...` of these, and its model class.
NNSIGHT_NAMES = {"CONFIG", "register", "save"}
NNSIGHT_MODELS = ("nnsight.modeling.transformers", "TransformersModel")
NNSIGHT_ADAPTER = "dspa_nn.ndif.adapter"
TORCH_MODULE = "dspa_nn.models.facts"


def test_nnsights_inner_workings_are_known_to_its_adapters_alone() -> None:
    # `graph/`, which runs on the server, has an adapter too, and a rule in its tests.
    names = {path: name_of(path) for path in modules()}
    others = [
        path
        for path, name in names.items()
        if name != NNSIGHT_ADAPTER and not name.startswith("dspa_nn.graph")
    ]
    for where, path, node in nodes_of(others):
        if isinstance(node, ast.Import):
            inner = [alias.name for alias in node.names if alias.name.startswith("nnsight.")]
            assert not inner, f"{where}: {inner}"
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "nnsight":
            for alias in node.names:
                allowed = node.module == "nnsight" and alias.name in NNSIGHT_NAMES
                allowed |= (node.module, alias.name) == NNSIGHT_MODELS
                assert allowed, f"{where}: {alias.name} of {node.module} belongs in the adapter"
        if isinstance(node, ast.Constant):
            assert node.value != "interleave", f"{where}: a frame of nnsight's"
        if isinstance(node, ast.Attribute):
            assert not re.match(r"_remote", node.attr), f"{where}: .{node.attr} is nnsight's"
        if names[path] != TORCH_MODULE:  # the torch module behind a model has one reader
            named = getattr(node, "attr", None), getattr(node, "value", None)
            assert "_module" not in named, f"{where}: use models.torch_module"


def test_rule_10_every_module_is_checked_or_travels() -> None:
    rooms = (*CHECKED_ROOMS, *UNCHECKED_ROOMS)
    outside = [
        name
        for name in map(name_of, modules())
        if name != "dspa_nn.__init__"
        and not any(name == room or name.startswith(f"{room}.") for room in rooms)
    ]
    assert not outside, "they are in neither list of tests/conftest.py"


def test_annotations_stay_objects() -> None:
    # With string annotations jaxtyping would check nothing, silently.
    future = [path for path in modules() if "__future__" in [name for _, name in imports_of(path)]]
    assert not future


def test_rule_9_nothing_is_unpickled_and_no_remote_code_is_trusted() -> None:
    picklers = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    ours = everywhere("dspa_nn", "recipes", "benchmarks")
    assert not [
        f"{path}:{line} imports {module}"
        for path in ours
        for line, module in imports_of(path)
        if module.split(".")[0] in picklers
    ]
    for where, _, node in nodes_of(ours):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert called != "torch.save", f"{where}: files are safetensors and JSON"
        if called == "torch.load":
            assert given.get("weights_only") == "True", f"{where}: torch.load unpickles"
        assert given.get("trust_remote_code", "False") == "False", where
        assert given.get("allow_pickle", "False") == "False", where


def test_rule_7_errors_are_of_one_family() -> None:
    builtin = {"Exception", "ValueError", "RuntimeError", "KeyError", "IndexError", "OSError"}
    for where, path, node in nodes_of(modules()):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            raised = ast.unparse(node.exc.func)
            assert raised not in builtin, f"{where} raises {raised}"
        if isinstance(node, ast.ClassDef) and path != PACKAGE / "errors.py":
            bases = {ast.unparse(base) for base in node.bases}
            own = node.name.endswith("Error") and bases & builtin
            assert not own, f"{where} starts a family of its own"


def test_rule_7_every_error_is_public_and_a_dspa_error() -> None:
    errors = importlib.import_module("dspa_nn.errors")
    defined = [value for _, value in inspect.getmembers(errors, inspect.isclass)]
    for error in defined:
        assert error.__name__ in dspa_nn.__all__
        assert issubclass(error, (dspa_nn.DSPAError, dspa_nn.DSPAWarning))


def tracked_files() -> list[Path]:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to the repository")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return [
        path for name in listed.stdout.split("\0") if name and (path := REPOSITORY / name).exists()
    ]


def test_no_machine_path_and_no_registry_is_written_down() -> None:
    # Put together from pieces, so that this file does not find itself.
    paths = "|".join(["wo" + "rk", "ro" + "ot", "op" + "t", "tm" + "p/whl"])
    hosts = [
        "pypi" + r"\.org",
        "python" + r"hosted\.org",
        "index" + "-url",
        "npm" + r"js\.(org|com)",
    ]
    pattern = re.compile(rf"(?<![\w.*)}}/-])/({paths})\b|{'|'.join(hosts)}")
    found = []
    for path in tracked_files():
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        hits = (number for number, line in enumerate(lines, 1) if pattern.search(line))
        found += [f"{path.relative_to(REPOSITORY)}:{number}" for number in hits]
    assert not found


def test_no_module_hides_a_public_name() -> None:
    # Importing dspa_nn.fit would make `dspa_nn.fit` that module, for everybody, from then on.
    assert not [name for name in dspa_nn.__all__ if (PACKAGE / f"{name}.py").exists()]


def test_constraints_pin_what_pyproject_asks_for() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    pins = {name.replace("_", "-"): version for name, version in pins.items()}
    wanted = [*project["dependencies"]]
    for name, extra in project["optional-dependencies"].items():
        if name != "inspect":  # wants an older fsspec, and so an environment of its own
            wanted += extra
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[requirement.name]), str(requirement)


# What a user calls on the public classes.
METHODS = {
    "DSPA": "from_preset render count fit plan apply attach",
    "ActivationCounts": "merge save load fit",
    "LayerSweep": "count counts fit dspa",
    "SweepCounts": "counts fit merge save load",
    "ConditionalDifferenceMap": "from_dense to_dense to_pandas top restrict score save load",
}


def public_callables() -> Iterator[tuple[str, object]]:
    for name in dspa_nn.__all__:
        value = getattr(dspa_nn, name)
        if not (inspect.isclass(value) and issubclass(value, (Exception, Warning))):
            yield name, value
        for method in METHODS.get(name, "").split():
            yield f"{name}.{method}", getattr(value, method)


def test_public_docstrings_open_with_an_example() -> None:
    without = []
    for name, value in public_callables():
        paragraphs = inspect.cleandoc(getattr(value, "__doc__", None) or "").split("\n\n")
        if len(paragraphs) < 2 or not re.match(r"Examples?:|```python|>>>", paragraphs[1]):
            without.append(name)
    assert not without


def test_described_parameters_are_those_of_the_function() -> None:
    """One name to an entry, which the site's strict build asks for too, minutes later."""
    strange: list[str] = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            text = ast.get_docstring(node) or ""
            block = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text, re.M)
            described = re.findall(r"^    (\S.*?):", block[1], re.M) if block else []
            given = node.args
            known = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            names = {one.arg for one in known if one is not None}
            strange += [
                f"{path}:{node.lineno} {name}" for name in described if name.strip("*") not in names
            ]
    assert not strange


def test_every_public_name_has_its_place_in_the_docs() -> None:
    pages = "\n".join(path.read_text() for path in (REPOSITORY / "docs" / "api").glob("*.md"))
    listed = set(re.findall(r"^::: (dspa_nn[\w.]+)", pages, flags=re.MULTILINE))
    assert {f"dspa_nn.{name}" for name in dspa_nn.__all__} <= listed
    steering = ("DSPAMethod", "PlanOptions", "RunOptions", "SteeringMethod", "SteeringOptions")
    assert {f"dspa_nn.steering.{name}" for name in steering} <= listed


def test_the_reference_lists_no_part_of_a_comparison() -> None:
    pages = "\n".join(path.read_text() for path in (REPOSITORY / "docs" / "api").glob("*.md"))
    assert not re.findall(r"^::: \S*\.account_\w+", pages, flags=re.MULTILINE)


def test_the_page_of_refusals_quotes_the_source() -> None:
    said = [
        " ".join(str(node.value).split())
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    page = (REPOSITORY / "docs" / "limits.md").read_text()
    quoted = re.findall(r'\| "([^|]+)" \|$', page, flags=re.MULTILINE)
    assert quoted
    assert not [text for text in quoted if not any(text in sentence for sentence in said)]
