"""Conversations: every turn equals a run that encodes everything, and fails without a trace."""

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn import DSPAWarning, FileError, MapError, SteeringError, TripleError
from dspa_nn.steering import Conversation
from tests import steer_zoo, tiny
from tests.counts.test_caches import build, steered
from tests.steer_zoo import SETTINGS, Lab, by_oracle, deviation, listed

STYLES = (("llama", "add"), ("qwen3", "none"), ("gemma2", "markup"))
SAID = ("tell me of the sea", "and of ships?", "fog ice run sit one two sun moon", "why?")
CALL: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}


@pytest.fixture(scope="module", params=STYLES, ids=lambda style: style[0])
def each(request: pytest.FixtureRequest) -> Lab:
    return steer_zoo.lab(*request.param, chat=True)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add", chat=True)


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DSPAWarning)
        # A random model is moved far by any edit.
        warnings.filterwarnings("ignore", "the residual stream of rows", DSPAWarning)
        yield


class Noted:
    """A logits processor that keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, _: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        self.seen.append(logits.clone())
        return logits

    @property
    def logits(self) -> torch.Tensor:
        return torch.stack(self.seen)


def begin(lab: Lab, **options: Any) -> Conversation:
    return lab.dspa.conversation(lab.map, **{**CALL, **SETTINGS, **options})


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def whole(lab: Lab, messages: list[dict[str, str]], **changes: Any) -> tuple[str, Any, Any]:
    """The answer, logits and log of a run that is given the whole conversation, in nnsight."""
    map = changes.pop("map", lab.map)
    options, call = steer_zoo.asked({**CALL, **changes})
    prompt, noted = lab.dspa.render(messages), Noted()
    with lab.nn.generate(prompt.ids, logits_processor=[noted], **call) as tracer:
        log = lab.dspa.apply(map, prompt=prompt, **options)
        ids = tracer.result.save()
    text = lab.tok.decode(ids[0, len(prompt.ids) :], skip_special_tokens=True)
    return text, noted.logits, log


def equal(conversation: Conversation, lab: Lab, text: str, **changes: Any) -> None:
    """Say something, and compare with the whole."""
    noted, before = Noted(), conversation.messages
    told = {name: value for name, value in changes.items() if name != "like"}
    answer = conversation.say(text, logits_processor=[noted], **told)
    wanted, logits, log = whole(lab, [*before, user(text)], **(changes.get("like") or told))
    assert answer == wanted
    assert deviation(noted.logits, logits) <= 1e-5
    edits = conversation.edits
    assert edits is not None
    assert listed(edits)[0] == listed(log)[0]
    assert torch.equal(edits.prompt_counts, log.prompt_counts)
    assert conversation.messages == [*before, user(text), {"role": "assistant", "content": answer}]


# -- equality --------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["attach", "apply"])
def test_every_turn_equals_the_whole(each: Lab, through: Any) -> None:
    conversation = begin(each, system="be kind", through=through)
    for text in SAID:  # the window of gemma2 is shorter than the first message
        equal(conversation, each, text)
    assert conversation.plan is not None


def test_a_turn_equals_the_oracle(lab: Lab) -> None:
    conversation = begin(lab)
    for text in SAID[:2]:
        messages = [*conversation.messages, user(text)]
        answer = conversation.say(text)
    ids, content = steer_zoo.prompt_ids(lab.tok, lab.bos, messages)
    run = by_oracle(lab, [ids], [content], **CALL)
    assert lab.tok.decode(run.ids[0, len(ids) :], skip_special_tokens=True) == answer
    assert conversation.edits is not None
    assert listed(conversation.edits)[0] == run.edits


def test_one_answer_and_one_message_pass_through_the_model(lab: Lab) -> None:
    conversation, passed = begin(lab), [0]
    hook = lab.hf.model.layers[0].register_forward_hook(
        lambda _, inputs, __: passed.__setitem__(0, passed[0] + inputs[0].shape[1])
    )
    with_hook = []
    for text in SAID[:3]:
        passed[0], before = 0, len(lab.dspa.render([*conversation.messages, user(text)]).ids)
        conversation.say(text)
        with_hook.append((passed[0], before))
    hook.remove()
    (_, first), (second, two), (third, three) = with_hook
    # The last prompt token runs again, and the last token made never runs.
    assert (second, third) == (two - first + 1 + 7, three - two + 1 + 7)


def test_settings_and_maps_of_one_turn(lab: Lab) -> None:
    conversation = begin(lab)
    twice = lab.map + 0.5 * lab.map
    equal(conversation, lab, SAID[0], alpha=0.3)
    equal(conversation, lab, SAID[1], mode="ablate", k_diff=2)
    equal(conversation, lab, SAID[2], map=twice)
    equal(conversation, lab, SAID[3], max_new_tokens=3)
    assert conversation.edits is not None
    assert conversation.edits.options["alpha"] == SETTINGS["alpha"]


def test_sampling_from_a_seed(lab: Lab) -> None:
    sampled: dict[str, Any] = {"do_sample": True, "temperature": 1.5}
    conversation = begin(lab, seed=3, **sampled)
    before = torch.get_rng_state()
    first = conversation.say(SAID[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert conversation.say(conversation.undo()) == first
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert whole(lab, [user(SAID[0])], **sampled)[0] == first
    assert conversation.say(conversation.undo(), seed=4) != first


def test_beams(lab: Lab) -> None:
    conversation = begin(lab)
    conversation.say(SAID[0])
    for text in SAID[1:3]:
        messages = [*conversation.messages, user(text)]
        assert conversation.say(text, num_beams=3) == whole(lab, messages, num_beams=3)[0]
    equal(conversation, lab, SAID[3])


def test_stop_strings_end_an_answer(lab: Lab) -> None:
    conversation = begin(lab)
    answer = conversation.say(SAID[0])
    stop = answer[3]
    assert (
        conversation.say(conversation.undo(), stop_strings=[stop])
        == (answer[: answer.index(stop) + 1])
    )


def test_undo_takes_turns_back(lab: Lab) -> None:
    conversation = begin(lab, messages=[user("sun"), {"role": "assistant", "content": "moon"}])
    for text in SAID[:3]:
        conversation.say(text)
    said, plan = conversation.messages, conversation.plan
    assert [conversation.undo() for _ in range(2)] == [SAID[2], SAID[1]]
    assert conversation.messages == said[:4]
    equal(conversation, lab, SAID[3])
    for _ in range(3):
        conversation.undo()
    assert (conversation.messages, conversation.edits, conversation.plan) == ([], None, None)
    with pytest.raises(SteeringError, match="nothing was said that could be undone"):
        conversation.undo()
    assert plan is not None


# -- what cannot be kept ---------------------------------------------------------------------------


def test_windows_that_moved_on_are_read_again_and_it_is_said_once() -> None:
    lab = steer_zoo.lab("gemma2", "add", chat=True)
    conversation = begin(lab)
    for text in SAID[:3]:
        equal(conversation, lab, text)
    for _ in range(2):
        conversation.undo()
    with pytest.warns(DSPAWarning, match="sliding windows have let go") as said:
        equal(conversation, lab, SAID[3])
    assert sum("sliding windows" in str(one.message) for one in said) == 1
    conversation.undo()
    conversation.undo()
    equal(conversation, lab, SAID[0])


def test_states_beside_keys_and_values_fall_back_to_the_whole() -> None:
    dspa = steered(build("Lfm2"))
    lab = steer_zoo.lab("llama", "add", chat=True)
    map = dspa.count(lab.triples, progress=False).fit(percentile=50, k_diff=6)
    conversation = dspa.conversation(map, **CALL)
    with pytest.warns(DSPAWarning, match="keeps states beside keys and values"):
        conversation.say(SAID[0])
    messages = [*conversation.messages, user(SAID[1])]
    answer = conversation.say(SAID[1])
    prompt = dspa.render(messages)
    with dspa.model.generate(prompt.ids, **CALL) as tracer:
        dspa.apply(map, prompt=prompt)
        ids = tracer.result.save()
    assert (
        dspa.facts.tokenizer.decode(ids[0, len(prompt.ids) :], skip_special_tokens=True) == answer
    )


def test_steering_earlier_messages_falls_back_to_the_whole(lab: Lab) -> None:
    conversation = begin(lab, positions="all")
    with pytest.warns(DSPAWarning, match="positions='all' steers earlier messages too"):
        equal(conversation, lab, SAID[0], like={"positions": "all"})
    equal(conversation, lab, SAID[1], like={"positions": "all"})
    equal(conversation, lab, SAID[2], positions="response")


def test_a_run_without_a_cache(lab: Lab) -> None:
    conversation = begin(lab)
    equal(conversation, lab, SAID[0])
    equal(conversation, lab, SAID[1], use_cache=False)
    equal(conversation, lab, SAID[2])


def test_position_embeddings_that_depend_on_the_length() -> None:
    from dspa_nn.steering.conversation.kept import why_not_kept

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert "position embeddings" in str(why_not_kept(tiny.model("llama", rope_parameters=rope)))
    assert why_not_kept(tiny.model("llama")) is None


def test_changed_weights_are_noticed() -> None:
    hf, tok = tiny.model("llama", seed=5), tiny.tokenizer("add")
    lab = steer_zoo.lab("llama", "add", chat=True)
    from dspa_nn import DSPA

    sae_in, sae_out = tiny.saes(hf, "topk")
    dspa = DSPA(tiny.nnsight_model(hf, tok), input_sae=sae_in, output_sae=sae_out)
    map = dspa.count(lab.triples, progress=False).fit(percentile=50, k_diff=6)
    conversation = dspa.conversation(map, **CALL, **SETTINGS)
    conversation.say(SAID[0])
    with torch.no_grad():  # above the output layer: no matter of the map's
        hf.model.layers[3].mlp.down_proj.weight.mul_(-1)
    answer = conversation.say(SAID[1])
    again = dspa.conversation(map, messages=conversation.messages[:2], **CALL, **SETTINGS)
    assert again.say(SAID[1]) == answer


def test_hooks_and_buffers_that_changed_are_noticed() -> None:
    lab = steer_zoo.lab("llama", "add", chat=True)
    conversation = begin(lab)
    conversation.say(SAID[0])
    frequencies = lab.hf.model.rotary_emb.inv_freq
    before = frequencies.clone()
    block = lab.hf.model.layers[0]
    handle = block.register_forward_pre_hook(lambda _, given: (given[0] * 1.5, *given[1:]))
    try:
        conversation.say(SAID[1])
        fresh = begin(lab, messages=conversation.messages[:2])
        assert fresh.say(SAID[1]) == conversation.messages[-1]["content"]
        handle.remove()
        frequencies.mul_(0.1)
        equal(conversation, lab, SAID[2])
    finally:
        handle.remove()
        frequencies.copy_(before)


# -- templates and contexts ------------------------------------------------------------------------

DROPS_REASONING = (
    "{{ bos_token }}{% for message in messages %}{% set text = message['content'] %}"
    "{% if message['role'] == 'assistant' %}{% set text = text.split('>')[-1] %}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ text }}<|im_end|>{% if loop.last %}!{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_that_rewrites_what_was_said_before(lab: Lab) -> None:
    kept = lab.tok.chat_template
    lab.tok.chat_template = DROPS_REASONING
    try:
        thought = {"role": "assistant", "content": "sun>moon>red"}
        conversation = begin(lab, messages=[user("tea"), thought])
        conversation.say(SAID[0])
        written = [user("tea"), {"role": "assistant", "content": "red"}, user(SAID[0])]
        answer = conversation.messages[-1]["content"]
        assert answer == whole(lab, written)[0]
        assert conversation.messages[1] == thought  # as it was said
    finally:
        lab.tok.chat_template = kept


def test_a_full_context_leaves_the_oldest_messages_out(lab: Lab) -> None:
    long = "sun moon " * 20
    conversation = begin(lab, system="be kind")
    conversation.say(long)
    conversation.say(long)
    before = conversation.messages
    with pytest.warns(DSPAWarning, match="answered without its 2 oldest messages"):
        answer = conversation.say(long)
    assert answer == whole(lab, [before[0], *before[3:], user(long)])[0]
    before = conversation.messages
    with pytest.raises(SteeringError, match="do not fit the context of 512"):
        conversation.say(long * 4)
    assert conversation.messages == before


# -- streams and failures --------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["attach", "apply"])
def test_a_stream_gives_the_same_text(lab: Lab, through: Any) -> None:
    conversation, twin = begin(lab, through=through), begin(lab)
    for text in SAID[:2]:
        pieces = list(conversation.say(text, stream=True))
        assert "".join(pieces) == twin.say(text)
    assert conversation.messages == twin.messages


def test_a_stream_that_is_closed_leaves_the_conversation_as_it_was(each: Lab) -> None:
    conversation = begin(each)
    conversation.say(SAID[0])
    before, edits = conversation.messages, conversation.edits
    stream = conversation.say(SAID[1], stream=True, max_new_tokens=200)
    assert conversation.messages == before  # nothing runs before the first piece
    next(iter(stream))
    for call in (lambda: conversation.say("x"), conversation.undo, lambda: conversation.save("x")):
        with pytest.raises(SteeringError, match="was called while a turn is under way"):
            call()
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert (conversation.messages, conversation.edits) == (before, edits)
    equal(conversation, each, SAID[2])


class Broken:
    """A logits processor that fails at the third token."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.left = error, 3

    def __call__(self, _: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        if not self.left:
            raise self.error
        return logits


@pytest.mark.parametrize("through", ["attach", "apply"])
@pytest.mark.parametrize(
    ("stream", "error"), [(False, KeyboardInterrupt()), (True, RuntimeError("mine"))]
)
def test_a_failed_turn_leaves_the_conversation_as_it_was(
    each: Lab, through: Any, stream: Any, error: BaseException
) -> None:
    conversation = begin(each, through=through)
    conversation.say(SAID[0])
    before, plan = conversation.messages, conversation.plan
    with pytest.raises(type(error)):
        list(conversation.say(SAID[2], stream=stream, logits_processor=[Broken(error)]))
    assert (conversation.messages, conversation.plan) == (before, plan)
    equal(conversation, each, SAID[1])


def test_a_failure_while_the_prompt_is_read(each: Lab) -> None:
    conversation = begin(each)
    conversation.say(SAID[0])

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = each.hf.model.layers[2].register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        conversation.say(SAID[1])
    hook.remove()
    equal(conversation, each, SAID[1])


def test_a_streams_warnings_are_said_to_its_reader(lab: Lab) -> None:
    conversation = begin(lab, alpha=0)
    with pytest.warns(DSPAWarning, match="alpha is 0") as said:
        list(conversation.say(SAID[0], stream=True))
    assert said[0].filename == __file__


# -- files -----------------------------------------------------------------------------------------


def test_what_is_saved_goes_on(lab: Lab, tmp_path: Path) -> None:
    conversation = begin(lab, system="be kind", seed=2, through="apply")
    for text in SAID[:2]:
        conversation.say(text)
    conversation.save(tmp_path)
    loaded = Conversation.load(tmp_path, lab.dspa, lab.map)
    assert loaded.messages == conversation.messages
    other = Conversation.load(tmp_path, lab.dspa, lab.map, system="be short").messages
    assert other == [{"role": "system", "content": "be short"}, *conversation.messages[1:]]
    with pytest.raises(SteeringError, match="load was given messages=, and goes on with those"):
        Conversation.load(tmp_path, lab.dspa, lab.map, messages=[])
    assert loaded.edits is None
    assert str(loaded.plan) == str(conversation.plan)
    equal(loaded, lab, SAID[2])
    assert loaded.say(loaded.undo(), alpha=0.1) == conversation.say(SAID[2], alpha=0.1)


def test_what_cannot_be_saved_is_named(lab: Lab, tmp_path: Path) -> None:
    conversation = begin(lab, logits_processor=[Noted()])
    with pytest.warns(DSPAWarning, match="logits_processor cannot be saved with the conversation"):
        conversation.save(tmp_path)
    assert Conversation.load(tmp_path, lab.dspa, lab.map).messages == []
    other = steer_zoo.lab("qwen3", "none", chat=True)
    with pytest.raises(SteeringError, match="was held with tiny-llama, and this DSPA is of tiny-"):
        Conversation.load(tmp_path, other.dspa, other.map)
    with pytest.raises(FileError, match=r"holds no conversation\.json"):
        Conversation.load(tmp_path / "none", lab.dspa, lab.map)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_goes_on_by_itself(lab: Lab, copied: Any) -> None:
    conversation = begin(lab, system="be kind", seed=2, alpha=0.3)
    conversation.say(SAID[0])
    twin = copied(conversation)
    assert str(twin) == str(conversation)
    assert str(twin.edits) == str(conversation.edits)
    conversation.say(SAID[1])
    assert len(twin.messages) == len(conversation.messages) - 2
    assert twin.say(SAID[1]) == conversation.messages[-1]["content"]
    assert twin.undo() == SAID[1]


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"alpa": 1},
            r"conversation takes no alpa \(did you mean 'alpha'\?\); it takes the settings",
        ),
        ({"temperatur": 1}, r"did you mean 'temperature'\?"),
        ({"prompt": "x"}, "was given prompt=, and a conversation renders its own prompts"),
        ({"alpha": -1}, "alpha is -1, and must be a finite number of at least 0"),
        ({"num_return_sequences": 2}, "num_return_sequences=2, and a turn has one answer"),
        (
            {"generation_config": {"top_k": 2}},
            "generation_config is a dict; expected tran",
        ),
        ({"max_new_tokens": "3"}, "max_new_tokens is '3'; expected a whole number, or None"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected at least 1, or None"),
        ({"num_beams": True}, "num_beams is True; expected a whole number, or None"),
        ({"temperature": "hot"}, "temperature is 'hot'; expected a number, or None"),
    ],
)
def test_keywords_that_are_refused(lab: Lab, options: dict[str, Any], text: str) -> None:
    with pytest.raises(SteeringError, match=text):
        begin(lab, **options)


@pytest.mark.usefixtures("unchecked")
def test_a_conversation_without_a_map_is_refused(lab: Lab) -> None:
    nothing: Any = None
    with pytest.raises(SteeringError, match="a conversation was given None for its map; give"):
        lab.dspa.conversation(nothing)


def test_texts_and_maps_that_are_refused(lab: Lab) -> None:
    conversation = begin(lab)
    with pytest.raises(SteeringError, match="max_new_tokens is '3'; expected a whole number"):
        conversation.say("x", max_new_tokens="3")
    with pytest.raises(TripleError, match="what is said holds half of a surrogate pair"):
        conversation.say("\ud800")
    with pytest.raises(SteeringError, match="say takes no alpa"):
        conversation.say("x", alpa=1)
    with pytest.raises(SteeringError, match="alpha is 'x', and must be"):
        conversation.say("x", alpha="x")
    plan = lab.dspa.plan(lab.map, "sun")
    with pytest.raises(SteeringError, match="was given a plan, and plans every turn"):
        conversation.say("x", map=plan)
    other = steer_zoo.lab("qwen3", "none", chat=True)
    with pytest.raises(MapError):
        conversation.say("x", map=other.map)
    with pytest.raises(TripleError, match="system= holds half of a surrogate pair"):
        begin(lab, system="\ud800")
    assert conversation.messages == []


def test_a_model_that_is_in_use_is_refused(lab: Lab) -> None:
    conversation = begin(lab)
    with (
        lab.dspa.attach(lab.hf, lab.map),
        pytest.raises(SteeringError, match="leave the context of attach before say"),
    ):
        conversation.say("x")
    equal(conversation, lab, SAID[0])


def test_markup_in_what_is_said_is_told_once(lab: Lab) -> None:
    conversation = begin(lab)
    with pytest.warns(DSPAWarning, match="a message's text holds '<eos>'"):
        conversation.say("sun <eos> moon")
    conversation.say("tea")
