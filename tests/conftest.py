"""What every test relies on: import order, shape checks, offline mode, a cache, data, skips."""

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress

# Before anything else: nnsight 0.8.1 mounts `.save` on every object, and beartype cannot be
# imported after that. Nothing above this line may import nnsight, nor any pytest plugin here.
import beartype  # noqa: F401

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import torch
from jaxtyping import config, install_import_hook

import tests.examples  # noqa: F401 (the profile of `make check`)

# beartype is here by now. What a test imports, or imports again, comes later.
NNSIGHT_CAME_FIRST = "nnsight" in sys.modules

# Every room whose shapes are checked while the tests run: all but `graph/`, which travels and so
# must stay as written. The hook takes a name and whatever lies below it, hence no bare "dspa_nn".
# A room that does not exist is simply never imported.
CHECKED_ROOMS = (
    "dspa_nn.__main__",
    "dspa_nn._version", "dspa_nn.checks", "dspa_nn.shipping", "dspa_nn.errors", "dspa_nn.shapes",
    "dspa_nn.provenance", "dspa_nn.imports", "dspa_nn.progress", "dspa_nn.shown",
    "dspa_nn.files", "dspa_nn.extensions", "dspa_nn.hub", "dspa_nn.triples", "dspa_nn.judges",
    "dspa_nn.mt_bench", "dspa_nn.harness",
    "dspa_nn.prompts", "dspa_nn.models", "dspa_nn.saes",
    "dspa_nn.maps", "dspa_nn.ndif", "dspa_nn.counts", "dspa_nn.theory", "dspa_nn.steering",
    "dspa_nn.costs",
    "dspa_nn.baselines", "dspa_nn.evaluation", "dspa_nn.audit", "dspa_nn.receipt",
    "dspa_nn.personas", "dspa_nn.tuning", "dspa_nn.serving", "dspa_nn.demo", "dspa_nn.reproduce",
    "dspa_nn.chat", "dspa_nn.checkup", "dspa_nn.cli",
)  # fmt: skip
UNCHECKED_ROOMS = ("dspa_nn.graph",)

install_import_hook(list(CHECKED_ROOMS), "beartype.beartype")

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

# Of the toolkit's cache the tests see what is large (the embedded model, the NDIF server), and have
# the rest for themselves: what they fit is not kept among the user's counts.
LARGE = ("hub", "wheel", "ndif-venv")


def cache_of_tests() -> Path:
    users = Path(os.environ.get("DSPA_CACHE") or Path.home() / ".cache" / "dspa_nn")
    ours = Path(tempfile.mkdtemp(prefix="dspa-cache-"))
    atexit.register(shutil.rmtree, ours, ignore_errors=True)
    for name in LARGE:
        with suppress(OSError):  # a home that cannot be written: each session fetches its own
            (users / name).mkdir(parents=True, exist_ok=True)
            (ours / name).symlink_to((users / name).resolve())
    return ours


os.environ["DSPA_CACHE"] = str(cache_of_tests())

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    no_gpu = pytest.mark.skip(reason="no CUDA device here")
    ndif = os.environ.get("DSPA_NDIF") == "1" or os.environ.get("CI") == "true"
    far = pytest.mark.filterwarnings("ignore:the residual stream of rows:dspa_nn.DSPAWarning")
    no_ndif = pytest.mark.skip(reason="no NDIF server asked for: make test, or set DSPA_NDIF=1")
    for item in items:
        # Not `item.keywords`, which holds the names of folders too.
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)
        if item.get_closest_marker("ndif") and not ndif:
            item.add_marker(no_ndif)
        # Tiny random models are moved by more than half in ordinary runs, and the embedded one is
        # not, but where tests on a server steer so that a run can be told from any other.
        embedded = "embedded" in getattr(item, "fixturenames", ())
        if item.get_closest_marker("ndif") or not embedded:
            item.add_marker(far)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what the imports have left for good: a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_counts_of_other_tests() -> Iterator[None]:
    """What one test fits is not found again by the next."""
    yield
    shutil.rmtree(Path(os.environ["DSPA_CACHE"]) / "counts", ignore_errors=True)


@pytest.fixture(autouse=True)
def no_figures_of_other_tests() -> Iterator[None]:
    """Figures that a test drew are closed: matplotlib warns of more than twenty."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked, as where users run the code: what is refused, it refuses itself.

    For tests that hand in what annotations rule out.
    """
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of public preference data (`DSPA_DATA`, else `../shared/data`)."""
    root = Path(os.environ.get("DSPA_DATA", REPOSITORY.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no data at {root}: point DSPA_DATA at the folder that holds it")
    return root


@pytest.fixture(scope="session")
def embedded() -> str:
    """Path or hub id of the embedded model, fetched once for the session."""
    from dspa_nn.errors import FileError
    from dspa_nn.models import model_path

    try:
        return model_path()
    except FileError as error:
        pytest.skip(f"the embedded model is not to be had here: {error}")
