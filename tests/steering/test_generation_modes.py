"""Every way in which transformers decodes: steered as the oracle steers it, or refused."""

from typing import Any

import pytest
import torch
import transformers

from dspa_nn import SteeringError
from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, Lab, by_generate, by_hooks, by_nnsight, by_oracle


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture(scope="module")
def rows(lab: Lab) -> list[list[int]]:
    return [lab.ids(prompt) for prompt in lab.prompts(3)]


def sequences(lab: Lab, rows: Any, way: str, **changes: Any) -> tuple[torch.Tensor, Any]:
    """Ids by nnsight or by hooks, and the log; `changes` may hold factories, called for each."""
    options, call = steer_zoo.asked(changes)
    call = {key: value() if key in FRESH else value for key, value in call.items()}
    if way == "hooks":
        with lab.dspa.attach(lab.hf, lab.map, **options) as steering:
            return lab.hf.generate(**steer_zoo.padded(lab, rows), **call), steering.logs[0]
    with lab.nn.generate(steer_zoo.padded(lab, rows), **call) as tracer:
        log = lab.dspa.apply(lab.map, **options)
        ids = tracer.result.save()
    return ids, log


# These keep state, so that every run needs one of its own.
FRESH = ("past_key_values", "streamer")
WAYS = ("nnsight", "hooks")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "how",
    [
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 3},
        {"num_beams": 2, "do_sample": True},
        {"num_return_sequences": 2, "do_sample": True},
        {"past_key_values": transformers.DynamicCache},
        {"cache_implementation": "static"},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
        {"generation_config": transformers.GenerationConfig(num_beams=2, max_new_tokens=4)},
    ],
    ids=lambda how: "-".join(how),
)
def test_what_works_works_as_plain_generate_does(
    lab: Lab, rows: Any, way: str, how: dict[str, Any]
) -> None:
    fresh = {key: value() if key in FRESH else value for key, value in how.items()}
    wanted = by_generate(lab, rows, **fresh, seed=3)
    torch.manual_seed(3)
    got, log = sequences(lab, rows, way, **how)
    assert torch.equal(got, wanted)
    torch.manual_seed(3)
    plain, _ = steer_zoo.quiet(sequences, lab, rows, way, **how, alpha=0)
    assert not torch.equal(got, plain)
    times = max(how.get("num_beams", 1), how.get("num_return_sequences", 1))
    if "generation_config" not in how:
        assert log.rows == len(rows) * times
    assert log.total == sum(log.by_row()) == len(list(log)) > 0


@pytest.mark.parametrize("way", WAYS)
def test_streamers_get_the_steered_tokens(lab: Lab, rows: Any, way: str) -> None:
    class Collecting(transformers.TextStreamer):
        text = ""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.text += text

    streamer = Collecting(lab.tok, skip_prompt=True)
    got, _ = sequences(lab, rows[:1], way, streamer=lambda: streamer)
    wanted = by_oracle(lab, rows[:1])
    assert torch.equal(got, wanted.ids)
    assert streamer.text == lab.tok.decode(wanted.ids[0, len(rows[0]) :])


def test_an_iterating_streamer(lab: Lab, rows: Any) -> None:
    streamer = transformers.TextIteratorStreamer(lab.tok, skip_prompt=True, timeout=60)
    got, _ = sequences(lab, rows[:1], "hooks", streamer=lambda: streamer)
    assert "".join(streamer) == lab.tok.decode(got[0, len(rows[0]) :])


# -- rows that end at different times --------------------------------------------------------------


@pytest.mark.parametrize("way", [by_nnsight, by_hooks])
def test_rows_end_at_different_times_and_the_log_ends_with_them(
    lab: Lab, rows: Any, way: Any
) -> None:
    free = by_oracle(lab, rows, max_new_tokens=8)
    new = free.ids[:, -8:]
    # An id that one row emits early and that another never does.
    ends = next(
        int(new[row, 2])
        for row in range(len(rows))
        if sum(bool((other == new[row, 2]).any()) for other in new) < len(rows)
    )
    how = {"eos_token_id": [ends], "pad_token_id": tiny.VOCABULARY["a"], "max_new_tokens": 8}
    got, wanted = way(lab, rows, **how), by_oracle(lab, rows, **how)
    assert torch.equal(got.ids, wanted.ids)
    width = max(map(len, rows))
    ended = [
        int(found[0]) if len(found := (own[width:] == ends).nonzero().flatten()) else 8
        for own in got.ids
    ]
    assert len(set(ended)) > 1
    living = [edit for edit in wanted.edits if edit[1] < width + ended[edit[0]]]
    assert got.edits == living
    assert len(living) < len(wanted.edits)
    assert got.log.total == len(living)
    assert got.log.by_row() == [sum(edit[0] == row for edit in living) for row in range(len(rows))]
    # The last prompt position and each token emitted before the end, while passes went on.
    assert got.log.tokens == sum(min(1 + end, got.ids.shape[1] - width) for end in ended)


def test_an_end_token_that_ends_nothing_ends_nothing_in_the_log(lab: Lab) -> None:
    # The tokenizer's EOS is emitted, but the model has none: the row goes on, and so does its log.
    eos = lab.tok.eos_token_id
    head = [lab.ids(lab.prompts(1)[0])]
    forced = transformers.LogitsProcessorList([_Forcing(eos)])
    run = by_nnsight(lab, head, logits_processor=forced)
    assert bool((run.ids[0, -steer_zoo.STEPS :] == eos).all())
    assert run.log.tokens == steer_zoo.STEPS


class _Forcing(transformers.LogitsProcessor):
    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = torch.full_like(scores, -1e9)
        scores[:, self.token] = 0
        return scores


# -- refused ---------------------------------------------------------------------------------------

ASSISTED = "cannot be steered: assisted decoding takes drafted tokens back; generate without"
REFUSED = (
    ({"prompt_lookup_num_tokens": 2}, "prompt_lookup_num_tokens cannot be steered: prompt lookup"
     " takes drafted tokens back; generate without prompt_lookup_num_tokens"),
    ({"assistant_early_exit": 1}, f"assistant_early_exit {ASSISTED} assistant_early_exit"),
    ({"prefill_chunk_size": 3}, "prefill_chunk_size cannot be steered: a chunked prefill never"
     " shows the prompt whole; generate without prefill_chunk_size"),
    ({"guidance_scale": 1.5}, "guidance_scale cannot be steered: guidance runs the model a second"
     " time at every step; generate without guidance_scale"),
    ({"custom_generate": "some/where"}, "custom_generate cannot be steered: a custom decoding loop"
     " may pass tokens in any order; generate without custom_generate"),
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("how", "sentence"), REFUSED, ids=[next(iter(how)) for how, _ in REFUSED])
def test_what_cannot_be_steered_is_refused(
    lab: Lab, rows: Any, way: str, how: dict[str, Any], sentence: str
) -> None:
    before = len(lab.hf.model.layers[2]._forward_hooks)
    with pytest.raises(SteeringError) as caught:
        sequences(lab, rows[:1], way, **how)
    assert str(caught.value).startswith(sentence)
    assert len(lab.hf.model.layers[2]._forward_hooks) == before  # nothing of ours is left


@pytest.mark.parametrize("way", WAYS)
def test_assisted_decoding_is_refused(lab: Lab, rows: Any, way: str) -> None:
    with pytest.raises(SteeringError, match=f"assistant_model {ASSISTED} assistant_model"):
        sequences(lab, rows[:1], way, assistant_model=tiny.model("llama", seed=1))


@pytest.mark.parametrize("way", WAYS)
def test_a_filled_cache_is_refused(lab: Lab, rows: Any, way: str) -> None:
    ids = torch.tensor(rows[:1])
    with torch.no_grad():
        cache = lab.hf(ids[:, :4], use_cache=True).past_key_values
    sentence = (
        "the call was given a cache that already holds tokens, so the prompt's latents cannot be "
        "read; pass the whole conversation with an empty cache"
    )
    with pytest.raises(SteeringError, match=sentence):
        sequences(lab, rows[:1], way, past_key_values=lambda: cache)
    assert cache.get_seq_length() == 4
    # Keys and values as older versions of transformers gave them: nothing says how many tokens.
    old = tuple((ids, ids) for _ in range(4))
    with pytest.raises(SteeringError, match=sentence):
        sequences(lab, rows[:1], way, past_key_values=lambda: old)


def test_a_mask_of_another_shape_is_refused(lab: Lab, rows: Any) -> None:
    ids = torch.tensor(rows[:1])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids[:, :2])}
    said = rf"the attention mask is \[1, 2\] and the ids are \[1, {ids.shape[1]}\]; pass both"
    with pytest.raises(SteeringError, match=said), lab.nn.trace(inputs):
        lab.dspa.apply(lab.map, positions="all")


def test_beams_need_one_call_for_the_whole_batch(lab: Lab) -> None:
    prompts = lab.prompts(2)

    def run() -> None:
        with lab.nn.generate(num_beams=2, max_new_tokens=3) as tracer:
            with tracer.invoke(prompts[0]):
                lab.dspa.apply(lab.map, **SETTINGS)
            with tracer.invoke(prompts[1]):
                lab.dspa.apply(lab.map, **SETTINGS)

    with pytest.raises(SteeringError, match="pass a list of prompts instead of several tracer"):
        run()
