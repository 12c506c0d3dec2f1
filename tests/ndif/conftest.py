"""The loopback NDIF server of these tests, and the same embedded model on both sides."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.ndif import server as ndif

WIDTH = 1024


# The server of these tests ends a job after so many seconds; the longest of theirs takes ten.
LIMIT = 45


@pytest.fixture(scope="package")
def server(embedded: str) -> Any:
    """A running server; where there is none, a failure in CI and a skip elsewhere."""
    reason = ndif.missing()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs the loopback NDIF server: {reason}")
        pytest.skip(reason)
    was_running = ndif.running()
    ndif.started_here = not was_running
    if not was_running:
        ndif.start(limit=LIMIT)
    from huggingface_hub import constants
    from nnsight import CONFIG

    with pytest.MonkeyPatch.context() as patch:
        home = ndif.environment().get("HF_HOME")
        if home is not None:
            # Both sides must find the model in our own cache.
            patch.setattr(constants, "HF_HUB_CACHE", str(Path(home) / "hub"))
        patch.setattr(CONFIG.API, "HOST", ndif.HOST)
        patch.setattr(CONFIG.API, "APIKEY", None)
        patch.setattr(CONFIG.APP, "REMOTE_LOGGING", False)
        yield ndif
    if not was_running:
        ndif.stop()


def build(model: Any) -> Any:
    """A `DSPA` of random SAEs, alike on both sides."""
    import dspa_nn as dn

    one, other = (
        tiny.random_sae("topk", layer=layer, width=WIDTH, d_model=576, scale=5.0, seed=layer)
        for layer in (9, 24)
    )
    return dn.DSPA(model, input_sae=one, output_sae=other, input_layer=9, output_layer=24)


@pytest.fixture(scope="package")
def remote(server: Any) -> Any:
    """The `DSPA` of a model without weights here."""
    import dspa_nn as dn

    return build(dn.remote_model(ndif.REPO_ID))


@pytest.fixture(scope="package")
def local(embedded: str, remote: Any) -> Any:
    """The `DSPA` of the same model, loaded here."""
    from nnsight.modeling.transformers import TransformersModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = TransformersModel(
            embedded, task="text-generation", tokenizer=remote.model.tokenizer, dispatch=True,
            dtype="float32",
        )  # fmt: skip
    return build(model)


@pytest.fixture(scope="package")
def map(local: Any) -> Any:
    """A sparse map of both, so dense that something is always steered."""
    import torch

    import dspa_nn as dn

    noise = torch.Generator().manual_seed(0)
    dense = torch.randn(WIDTH, WIDTH, generator=noise)
    dense *= torch.rand(WIDTH, WIDTH, generator=noise) < 0.05
    dense[:, 512:] = 0
    return dn.ConditionalDifferenceMap.from_dense(
        dense, prompt_tokens="all", provenance=local.provenance()
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder for checkpoints."""
    return tmp_path
