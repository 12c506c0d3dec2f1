"""Inspect's provider `dspa`: what it honours and refuses, and its answers against plain runs.

inspect_ai wants an older fsspec than the tests' environment has, so that a stand-in with its names
takes its place; where it is installed, the real one is used as well.
"""

import asyncio
import importlib
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from dspa_nn.errors import EvaluationError
from dspa_nn.harness import inspect_entry, inspect_provider
from dspa_nn.harness.chat_requests import Built, Sampling, answer_chat, built_from
from dspa_nn.harness.inspect_settings import messages_from, sampling_from
from dspa_nn.personas import Persona
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo
from tests.conftest import REPOSITORY

CHAT = [{"role": "user", "content": "the lake is blue"}]


@pytest.fixture(scope="module")
def map() -> Any:
    return eval_zoo.counts().fit(percentile=50)


def built(map: Any, **settings: Any) -> Built:
    return built_from("tiny", {"dspa": eval_zoo.dspa(), "map": map, **eval_zoo.STEER, **settings})


def plain(prompt: Any, **options: Any) -> str:
    model = eval_zoo.model()
    ids = prompt.prompt_ids[None]
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, pad_token_id=0, **options
    )
    return eval_zoo.dspa().facts.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)


def test_an_answer_is_that_of_a_steered_run_and_tells_its_edits(map: Any) -> None:
    dspa = eval_zoo.dspa()
    answer = answer_chat(built(map), CHAT, Sampling(max_tokens=6))
    prompt = dspa.render(CHAT)
    with dspa.attach(eval_zoo.model(), map, prompt=prompt, **eval_zoo.STEER) as edits:
        assert answer.text == plain(prompt, do_sample=False)
    assert answer.edits is not None
    assert (answer.edits["steps"], answer.edits["edits"]) == (edits.steps, edits.total)
    assert answer.edits["latents"] == {str(n): times for n, times in edits.by_latent().items()}
    assert answer.edits["ablate"] == [latent for latent, _ in edits.plans[0].ablate]
    unsteered = answer_chat(
        built_from("tiny", {"dspa": dspa, "unsteered": True}), CHAT, Sampling(max_tokens=6)
    )
    assert unsteered.text == plain(prompt, do_sample=False)
    assert unsteered.edits is None
    assert unsteered.text != answer.text


def test_a_seed_repeats_an_answer_and_leaves_the_random_state(map: Any) -> None:
    steered = built(map)
    hot = Sampling(max_tokens=6, temperature=2.0, seed=3)
    state = torch.random.get_rng_state()
    texts = {answer_chat(steered, CHAT, hot).text for _ in range(2)}
    assert len(texts) == 1
    assert torch.equal(torch.random.get_rng_state(), state)
    others = {answer_chat(steered, CHAT, hot._replace(seed=n)).text for n in range(4)}
    assert len(others) > 1
    narrow = Sampling(max_tokens=6, top_p=1e-6)
    assert answer_chat(steered, CHAT, narrow).text == answer_chat(
        steered, CHAT, Sampling(max_tokens=6)
    ).text  # fmt: skip


def test_an_answer_ends_before_a_stop_text(map: Any) -> None:
    steered = built(map)
    whole = answer_chat(steered, CHAT, Sampling(max_tokens=6))
    assert whole.ended == "max_tokens"
    end = whole.text.split()[-1]
    cut = answer_chat(steered, CHAT, Sampling(max_tokens=6, stop=(end, "never")))
    assert (cut.text, cut.ended) == (whole.text[: whole.text.index(end)], "stop")
    assert cut.tokens[1] <= whole.tokens[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"map": "m", "alpa": 1}, r"the provider dspa takes no alpa \(did you mean 'alpha'\?\)"),
        ({}, "of map, method and unsteered came none; give the map that steers, or unsteered=true"),
        ({"map": "m", "unsteered": True}, "of map, method and unsteered came map and unsteered"),
        ({"unsteered": True, "alpha": 1}, "alpha came with unsteered, and are settings of a map"),
        ({"unsteered": "yes"}, "unsteered is 'yes'; expected true or false"),
    ],
)
def test_model_arguments_that_do_not_go_together(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        built_from("tiny", {"dspa": eval_zoo.dspa(), **arguments})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"logprobs": True}, "logprobs=True came, which the provider dspa does not have; leave it"),
        ({"num_choices": 2}, "num_choices=2 came"),
        ({"frequency_penalty": 0.5}, "frequency_penalty=0.5 came"),
        ({"extra_body": {"alpha": 1}}, "extra_body=.* came"),
        ({"max_tokens": 0}, "max_tokens is 0; expected a whole number of at least 1"),
        ({"temperature": -1}, "temperature is -1; expected a number of at least 0"),
        ({"temperature": 1e-320}, "temperature is 1e-320; expected 0, which takes the likeliest"),
        ({"top_p": 1.5}, "top_p is 1.5; expected a number from 1e-06 to 1"),
        ({"seed": "x"}, "seed is 'x'; expected a whole number from 0"),
    ],
)
def test_settings_that_are_not_honoured(config: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationError, match=words):
        sampling_from(config)


def test_settings_that_are_honoured() -> None:
    config = {"max_tokens": 5, "temperature": 0, "stop_seqs": ["a"], "num_choices": 1, "timeout": 9}
    assert sampling_from(config) == Sampling(5, 0, stop=("a",))


def said(role: str, content: Any) -> Any:
    return SimpleNamespace(role=role, content=content)


def test_messages_and_what_is_none() -> None:
    parts = [SimpleNamespace(type="text", text="a"), SimpleNamespace(type="text", text="b")]
    assert messages_from([said("system", "be kind"), said("user", parts)]) == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "a\nb"},
    ]
    with pytest.raises(EvaluationError, match="a message of the role 'tool' came"):
        messages_from([said("tool", "1")])
    with pytest.raises(EvaluationError, match="holds content of the type image"):
        messages_from([said("user", [SimpleNamespace(type="image")])])
    with pytest.raises(EvaluationError, match="offers 1 tools, and the provider dspa calls none"):
        messages_from([], ["search"])


# -- the provider's class, on a stand-in or the real library ---------------------------------------


class _Api:
    def __init__(self, model_name: str, config: Any, **_: Any) -> None:
        self.model_name, self.config = model_name, config


class _Config(SimpleNamespace):
    def model_dump(self) -> dict[str, Any]:
        return vars(self)


class _Output(SimpleNamespace):
    @classmethod
    def from_content(cls, model: str, content: str, stop_reason: str) -> "_Output":
        return cls(model=model, completion=content, stop_reason=stop_reason)


@pytest.fixture(params=["stand-in", "inspect_ai"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    inspect_provider.cache_clear()
    if request.param == "inspect_ai":
        return pytest.importorskip("inspect_ai.model", reason="Inspect has its own environment")
    names: Any = ModuleType("inspect_ai.model")
    names.ModelAPI, names.GenerateConfig, names.ModelOutput = _Api, _Config, _Output
    names.ModelUsage = SimpleNamespace
    names.registered = {}

    def modelapi(name: str) -> Any:
        return lambda made: names.registered.setdefault(name, made)

    names.modelapi = modelapi
    monkeypatch.setitem(sys.modules, "inspect_ai", ModuleType("inspect_ai"))
    monkeypatch.setitem(sys.modules, "inspect_ai.model", names)
    yield names
    inspect_provider.cache_clear()


def test_the_provider_answers_with_its_edits(library: Any, map: Any) -> None:
    dspa = eval_zoo.dspa()
    provider = inspect_provider()("tiny", dspa=dspa, map=map, **eval_zoo.STEER)
    config = library.GenerateConfig(max_tokens=6)
    output = asyncio.run(provider.generate([said("user", CHAT[0]["content"])], [], "none", config))
    wanted = answer_chat(built(map), CHAT, Sampling(max_tokens=6))
    assert output.completion == wanted.text
    assert output.metadata == {"dspa": wanted.edits}
    assert (output.usage.input_tokens, output.usage.output_tokens) == wanted.tokens
    assert (provider.max_connections(), provider.should_retry(ValueError())) == (1, False)
    with pytest.raises(EvaluationError, match="top_k is -1"):
        asyncio.run(provider.generate([], [], "none", library.GenerateConfig(top_k=-1)))
    with pytest.raises(EvaluationError, match="base_url='x' came, and the provider dspa runs"):
        inspect_provider()("tiny", base_url="x", dspa=dspa, map=map)


def test_a_personas_file_steers_where_a_map_does(tmp_path: Path) -> None:
    persona = Persona({"task": 1.0}, eval_zoo.effects())
    persona.save(tmp_path / "task.json")
    read, given = (
        answer_chat(built(one), CHAT, Sampling(max_tokens=6))
        for one in (str(tmp_path / "task.json"), persona)
    )
    assert read == given
    assert read.edits is not None
    assert read.edits["ablate"]
    assert set(read.edits["ablate"]) <= set(persona.columns.tolist())


def test_any_steering_method_can_be_evaluated(library: Any, map: Any) -> None:
    method = DSPAMethod("mine", eval_zoo.dspa(), map, eval_zoo.STEER)
    provider = inspect_provider()("tiny", dspa=eval_zoo.dspa(), method=method)
    assert provider.built.method is method


def test_inspects_entry_point_registers_the_provider(library: Any) -> None:
    importlib.reload(inspect_entry)
    if isinstance(library, ModuleType) and hasattr(library, "registered"):
        assert library.registered["dspa"]() is inspect_provider()


def test_the_package_names_its_entry_point() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["inspect_ai"] == {"dspa_nn": inspect_entry.__name__}
    assert "fsspec<=2026.6.0" in project["optional-dependencies"]["inspect"]


def test_without_inspect_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    inspect_provider.cache_clear()
    monkeypatch.setitem(sys.modules, "inspect_ai.model", None)
    with pytest.raises(EvaluationError, match=r"'dspa-nn\[inspect\]' in an environment of"):
        inspect_provider()
