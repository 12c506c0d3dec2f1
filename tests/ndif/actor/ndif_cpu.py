"""A CPU model actor for a loopback NDIF: the stock actor less its CUDA calls, under observation.

Every import that shipped code makes is logged, and refused unless a sandbox might allow it; what
the toolkit consists of is looked up once, to show that it is not there.
"""
# This file runs in the server's environment, which is not the one that is type-checked.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import builtins
import importlib.util
import json
import os
import sys
import time

import ray
import torch
from ndif.services.ray.deployments.modeling import base
from ndif.services.ray.deployments.modeling.base import BaseModelDeployment
from nnsight.modeling.huggingface import HuggingFaceModel

ALLOWED = {
    "torch", "nnsight", "numpy", "einops", "math", "typing", "collections", "enum", "operator",
}  # fmt: skip
ABSENT = ("dspa_nn", "sae_lens", "jaxtyping", "beartype")
LOG = os.environ.get("DSPA_NDIF_IMPORTS", os.devnull)
_import = builtins.__import__


def note(**facts):
    """Append one line to the log of imports."""
    with open(LOG, "a") as log:  # noqa: PTH123
        log.write(json.dumps({"time": round(time.time(), 3), **facts}) + "\n")


def shipped(frame):
    """Whether a frame runs code that a request brought along.

    nnsight compiles shipped functions under "[name:line] file", and runs blocks in a namespace of
    its own that belongs to no module.
    """
    if frame.f_code.co_filename.startswith("["):
        return True
    return type(frame.f_globals).__module__.startswith("nnsight.")


def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    """Import, unless shipped code asks for what it must not need."""
    frame = sys._getframe(1)
    if shipped(frame):
        root = name.partition(".")[0]
        note(event="import", name=name, by=frame.f_code.co_filename, allowed=root in ALLOWED)
        if root not in ALLOWED:
            raise ImportError(f"shipped code may not import {name}")
    return _import(name, globals, locals, fromlist, level)


class CPUModelDeployment(BaseModelDeployment):
    """The stock deployment, on the CPU."""

    CACHEABLE = False

    def load_from_disk(self):
        """Load the model without asking CUDA for anything."""
        for name in ("gpu_baselines", "gpu_peaks"):
            setattr(base, name, lambda *args, **kwargs: {})
        torch.cuda.synchronize = lambda *args, **kwargs: None
        torch.cuda.empty_cache = lambda *args, **kwargs: None
        model = HuggingFaceModel.from_model_key(
            self.model_key, dispatch=True, dtype="float32", device="cpu", **self.kwargs
        )
        model._module.requires_grad_(False)
        builtins.__import__ = guarded
        return model

    def execute(self, request):
        """Run a request; log that the toolkit is not here, before and after."""
        present = [name for name in ABSENT if importlib.util.find_spec(name) is not None]
        loaded = [name for name in ABSENT if name in sys.modules]
        note(event="request", id=request.id, bytes=len(request.payload), present=present,
             loaded=loaded)  # fmt: skip
        try:
            return super().execute(request)
        finally:
            loaded = [name for name in ABSENT if name in sys.modules]
            note(event="done", id=request.id, loaded=loaded, threads=torch.get_num_threads())


@ray.remote(num_cpus=1, max_restarts=-1)
class CPUModelActor(CPUModelDeployment):
    """What NDIF_DEFAULT_MODEL_ACTOR_CLASS names."""
