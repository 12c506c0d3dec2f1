"""Bad input to steering: one sentence each, asserted, through nnsight's workers and all.

Bad triples, SAEs, maps, counts and files are in the tests of their own modules; overlong prompts
and checkpoints in test_counting; decoding modes in test_generation_modes.
"""

import copy
import inspect
from typing import Any

import numpy as np
import pytest
import torch

from dspa_nn import (
    DSPA,
    ConditionalDifferenceMap,
    CountsError,
    DSPAError,
    MapError,
    PreferenceTriple,
    SAEError,
    SteeringError,
    TripleError,
)
from dspa_nn.counts import prepare
from dspa_nn.graph.settings import allowed_latents
from tests import steer_zoo, tiny
from tests.steer_zoo import SETTINGS, Lab


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


def generated(lab: Lab, inputs: Any = "sun moon", **options: Any) -> Any:
    with lab.nn.generate(inputs, max_new_tokens=2, do_sample=False) as tracer:
        lab.dspa.apply(lab.map, **(SETTINGS | options))
        ids = tracer.result.save()
    return ids  # noqa: RET504 - the block above is no place to return from


def traced(lab: Lab, inputs: Any = "sun moon", **options: Any) -> Any:
    with torch.no_grad(), lab.nn.trace(inputs):
        lab.dspa.apply(lab.map, **(SETTINGS | options))
        logits = lab.nn.lm_head.output.save()
    return logits  # noqa: RET504


def sentence(call: Any, *args: Any, error: type[DSPAError] = SteeringError, **changes: Any) -> str:
    with pytest.raises(error) as caught:
        call(*args, **changes)
    text = str(caught.value)
    assert "\n" not in text
    assert ". " not in text.rstrip(".")  # one sentence
    return text


# -- where apply is called -------------------------------------------------------------------------


def test_outside_a_tracing_context(lab: Lab) -> None:
    assert sentence(lab.dspa.apply, lab.map) == (
        "apply was called outside a tracing context; call it inside `with model.generate(...)`, "
        "`with model.trace(...)` or a `tracer.invoke(...)` of theirs"
    )


@pytest.mark.parametrize("layer", [2, 3])
@pytest.mark.parametrize("generating", [False, True])
def test_after_the_layers_have_run(lab: Lab, layer: int, generating: bool) -> None:
    def late() -> None:
        if generating:
            with lab.nn.generate("sun moon", max_new_tokens=3):
                lab.nn.model.layers[layer].output.save()
                lab.dspa.apply(lab.map, **SETTINGS)
        else:
            with torch.no_grad(), lab.nn.trace("sun moon"):
                lab.nn.model.layers[layer].output.save()
                lab.dspa.apply(lab.map, prompt_length=3, **SETTINGS)

    assert sentence(late) == (
        "apply was called after model.model.layers.1.output had run; call it first in the block, "
        "before any later layer is read"
    )


def test_reading_the_input_layer_first_is_early_enough(lab: Lab) -> None:
    with lab.nn.generate("sun moon", max_new_tokens=2, do_sample=False) as tracer:
        lab.nn.model.layers[tiny.LAYER_IN].output.save()
        lab.dspa.apply(lab.map, **SETTINGS)
        ids = tracer.result.save()
    assert torch.equal(ids, steer_zoo.by_oracle(lab, [lab.ids("sun moon")], max_new_tokens=2).ids)


def test_two_at_the_same_layer(lab: Lab) -> None:
    def twice() -> None:
        with lab.nn.generate("sun moon", max_new_tokens=2):
            lab.dspa.apply(lab.map, **SETTINGS)
            lab.dspa.apply(lab.map, **SETTINGS)

    text = sentence(twice)
    assert text.startswith("two apply calls would steer ")
    assert text.endswith(
        "layers.2.output in the same rows; call it once, with one map, such as the sum map_a + "
        "map_b"
    )
    assert generated(lab).shape[0] == 1  # the model works as before


def test_pipe_and_embeddings(lab: Lab) -> None:
    def piped() -> None:
        with lab.nn.pipe("sun moon", max_new_tokens=2):
            lab.dspa.apply(lab.map)

    assert sentence(piped) == (
        "apply works in generate and trace, not in pipe; use model.generate(...)"
    )
    embedded = lab.hf.get_input_embeddings()(torch.tensor([lab.ids("sun")])).detach()
    for call in (generated, traced):
        assert sentence(call, lab, {"inputs_embeds": embedded}) == (
            "apply needs token ids to tell the prompt's tokens apart, and the call was given none; "
            "pass text, chat messages or input_ids"
        )


# -- settings --------------------------------------------------------------------------------------

WHOLE = "and must be a whole number of at least 1"
RANGES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"alpha": -0.1}, "alpha is -0.1, and must be a finite number of at least 0"),
    ({"alpha": float("inf")}, "alpha is inf, and must be a finite number of at least 0"),
    ({"alpha": float("nan")}, "alpha is nan, and must be a finite number of at least 0"),
    ({"alpha": 1e39}, "alpha is 1e+39, and must be a number of at most 1,000,000"),
    ({"k_prompt": 0}, f"k_prompt is 0, {WHOLE}"),
    ({"k_diff": -3}, f"k_diff is -3, {WHOLE}"),
    ({"k_diff": True}, f"k_diff is True, {WHOLE}"),
    ({"mode": "boost"}, "mode is 'boost', and must be one of ablate, augment, both"),
    ({"prompt_rule": "x"}, "prompt_rule is 'x', and must be one of density, gated, centred"),
    ({"positions": "prompt"}, "positions is 'prompt', and must be one of response, all"),
    ({"only": [40]}, "only= names latent 40, and the output SAE has latents 0 to 39"),
    ({"never": [3, -1]}, "never= names latent -1, and the output SAE has latents 0 to 39"),
)


@pytest.mark.parametrize(("options", "wanted"), RANGES, ids=[next(iter(o)) for o, _ in RANGES])
def test_settings_out_of_range(lab: Lab, options: dict[str, Any], wanted: str) -> None:
    assert sentence(generated, lab, **options) == wanted
    assert sentence(lab.dspa.attach, lab.hf, lab.map, **options) == wanted
    if "positions" not in options:
        assert sentence(lab.dspa.plan, lab.map, "sun", **options) == wanted


@pytest.mark.parametrize("percentile", [-1, 100.5, float("nan")])
def test_percentiles_out_of_range(lab: Lab, percentile: float) -> None:
    for fit in (lab.counts.fit, lambda **given: lab.dspa.fit(lab.triples, **given)):
        text = sentence(fit, error=MapError, percentile=percentile)
        assert text.startswith(f"percentile is {percentile}")


# -- prompts, lengths, padding ---------------------------------------------------------------------


def batch(lab: Lab, side: str) -> dict[str, torch.Tensor]:
    return steer_zoo.padded(lab, [lab.ids("sun moon"), lab.ids("tea")], side)


def test_right_padding_in_generate(lab: Lab) -> None:
    assert sentence(generated, lab, batch(lab, "right")) == (
        "the batch is padded on the right, and generate continues from the last position; set "
        "tokenizer.padding_side = 'left'"
    )


LENGTHS: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "a single forward does not say where the prompt ends; give prompt_length= (in tokens, BOS"
     " included), prompt=, or positions='all'"),
    ({"prompt_length": 5}, "prompt_length is 5 for row 1, which has 4 tokens; give 1 to 4"),
    ({"prompt_length": [3, 0]}, "prompt_length is 0 for row 1, which has 4 tokens; give 1 to 4"),
    ({"prompt_length": [3]}, "prompt_length came with 1 values for 2 rows; give one int, or one"
     " for each row"),
    ({"prompt": ["sun", "tea"], "prompt_length": [4, 3]}, "prompt_length is [4, 3] and the prompts"
     " of prompt= have [4, 4] tokens; give one of the two"),
    ({"prompt": ["moon", "tea"]}, "row 0 does not hold the tokens of its prompt=; pass prompt.ids"
     " to the model and the same prompt to apply"),
    ({"prompt": "sun"}, "prompt= came with 1 prompts for 2 rows; give one a row"),
    ({"positions": "all", "prompt_length": 9}, "prompt_length is 9 for row 1, which has 4 tokens;"
     " give 1 to 4"),
)  # fmt: skip


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("options", "wanted"), LENGTHS)
def test_lengths_that_cannot_be(lab: Lab, side: str, options: dict[str, Any], wanted: str) -> None:
    assert sentence(traced, lab, batch(lab, side), **options) == wanted


def test_lengths_and_prompts_in_generate(lab: Lab) -> None:
    assert sentence(generated, lab, prompt_length=3) == (
        "prompt_length is for trace; in generate the whole row is the prompt, so leave it out"
    )
    assert sentence(generated, lab, prompt="sun") == (
        "row 0 does not hold the tokens of its prompt=; pass prompt.ids to the model and the same "
        "prompt to apply"
    )


def test_lengths_that_agree_are_taken(lab: Lab) -> None:
    both = traced(lab, batch(lab, "right"), prompt=["sun", "tea"], prompt_length=[4, 4])
    assert torch.equal(both, traced(lab, batch(lab, "right"), prompt=["sun", "tea"]))


def test_a_mask_over_cached_tokens(lab: Lab) -> None:
    ids = torch.tensor([lab.ids("sun moon")])
    with torch.no_grad():
        cache = lab.hf(ids[:, :4], use_cache=True).past_key_values
    inputs = {"input_ids": ids[:, 4:], "attention_mask": torch.ones_like(ids)}

    def call() -> None:
        with torch.no_grad(), lab.nn.trace(**inputs, past_key_values=cache):
            lab.dspa.apply(lab.map, prompt_length=2)

    assert sentence(call) == (
        "the attention mask covers 4 tokens that are already in a cache; pass the whole "
        "conversation with an empty cache, so that the prompt's latents can be read"
    )


# -- models, SAEs, maps ----------------------------------------------------------------------------


def built(lab: Lab, **changes: Any) -> DSPA:
    given = {
        "input_sae": lab.sae_in,
        "output_sae": lab.sae_out,
        "input_layer": tiny.LAYER_IN,
        "output_layer": tiny.LAYER_OUT,
    }
    return DSPA(changes.pop("model", lab.nn), **(given | changes))


def test_layers(lab: Lab) -> None:
    tail = " has layers 0 to 3; the input layer must not come after the output layer"
    for one, two in ((2, 1), (1, 4), (-1, 2)):
        text = sentence(built, lab, input_layer=one, output_layer=two)
        assert text == f"input layer {one} and output layer {two} came, and tiny-llama{tail}"


def test_saes_of_another_width_layer_or_model(lab: Lab) -> None:
    wide = tiny.random_sae("topk", layer=1, d_model=64)
    assert "64" in sentence(built, lab, input_sae=wide, error=SAEError)
    assert "layer 2" in sentence(built, lab, input_sae=lab.sae_out, error=SAEError)
    other = tiny.random_sae("topk", layer=1, model_name="google/gemma-2-2b")
    text = sentence(built, lab, input_sae=other, error=SAEError)
    assert "gemma-2-2b" in text
    assert "tiny-llama" in text


@pytest.mark.parametrize("role", ["input", "output"])
def test_nan_in_activations(lab: Lab, role: str) -> None:
    broken = copy.deepcopy(lab.hf)
    layer = {"input": lab.dspa.input_layer, "output": lab.dspa.output_layer}[role]
    # As where a dtype overflows: the weights are those that the map was fitted with.
    broken.model.layers[layer].mlp.down_proj.register_forward_hook(
        lambda _module, _inputs, output: output * float("nan")
    )
    nn = tiny.nnsight_model(broken, lab.tok)
    dspa = built(lab, model=nn)

    def call() -> None:
        with nn.generate("sun moon", max_new_tokens=2):
            dspa.apply(lab.map)

    wanted = (
        f"the residual stream at the {role} layer holds NaN or infinity; load the model in a wider "
        "dtype (bfloat16 or float32)"
    )
    assert sentence(call) == wanted
    ids = torch.tensor([lab.ids("sun moon")])
    with dspa.attach(broken, lab.map):
        assert sentence(broken.generate, ids, max_new_tokens=2) == wanted


def test_a_map_of_another_model_or_sae_names_both(lab: Lab) -> None:
    other = steer_zoo.lab("qwen3", "none", chat=True)
    wanted = (
        "this map was fitted with model tiny-qwen3, but it is used with model tiny-llama; use the "
        "one it was fitted with, or fit a map for this one."
    )
    call = {"max_new_tokens": 2}

    def steer() -> None:
        with lab.nn.generate("sun", **call):
            lab.dspa.apply(other.map)

    assert sentence(steer, error=MapError) == wanted
    assert sentence(lab.dspa.plan, other.map, "sun", error=MapError) == wanted
    assert sentence(lab.dspa.attach, lab.hf, other.map, error=MapError) == wanted
    retrained = built(lab, output_sae=tiny.random_sae("topk", layer=2, seed=77))
    text = sentence(retrained.plan, lab.map, "sun", error=MapError)
    assert text.startswith(
        f"this map was fitted with output SAE with SHA-256 {lab.dspa.output_sae.sha256[:12]}, but "
    )


def test_an_encoder_decoder_and_a_model_without_a_tokenizer(lab: Lab) -> None:
    import transformers

    from dspa_nn.models import read_facts

    config = transformers.T5Config(
        vocab_size=16, d_model=8, d_ff=8, num_layers=1, num_heads=1, d_kv=8
    )
    t5 = transformers.T5ForConditionalGeneration(config)
    assert sentence(read_facts, t5, lab.tok, error=DSPAError) == (
        "T5ForConditionalGeneration is an encoder-decoder; DSPA steers decoder-only models"
    )
    assert sentence(read_facts, lab.hf, error=DSPAError) == (
        "LlamaForCausalLM came without a tokenizer; pass TransformersModel(..., "
        "task='text-generation', tokenizer=...)"
    )


# -- maps that cannot serve, and values of another type --------------------------------------------


def dense(lab: Lab, rows: int = tiny.WIDTH_IN, columns: int = tiny.WIDTH_OUT) -> Any:
    return ConditionalDifferenceMap.from_dense(torch.ones(rows, columns))


def steered_by(lab: Lab, map: Any, **options: Any) -> None:
    with lab.nn.generate("sun moon", max_new_tokens=2, do_sample=False):
        lab.dspa.apply(map, **options)


@pytest.mark.parametrize(("rows", "columns"), [(40, 40), (48, 41)])
def test_a_map_of_other_widths(lab: Lab, rows: int, columns: int) -> None:
    wanted = (
        f"this map is {rows} x {columns}, and the two SAEs have 48 and 40 latents; use the SAEs it "
        "was fitted with, or fit a map for these"
    )
    map = dense(lab, rows, columns)
    assert sentence(steered_by, lab, map, error=MapError) == wanted
    assert sentence(lab.dspa.plan, map, "sun", error=MapError) == wanted
    assert sentence(lab.dspa.attach, lab.hf, map, error=MapError) == wanted


@pytest.mark.parametrize(("rule", "what"), [("gated", "tau"), ("centred", "tau and gate mean")])
def test_a_map_without_the_gates_of_a_fit(lab: Lab, rule: str, what: str) -> None:
    wanted = (
        f"prompt_rule={rule!r} needs the map's {what}, which this map does not hold; fit the map "
        "from counts, or use prompt_rule='density'"
    )
    imported = dense(lab)
    assert sentence(steered_by, lab, imported, prompt_rule=rule, error=MapError) == wanted
    assert sentence(lab.dspa.plan, imported, "sun", prompt_rule=rule, error=MapError) == wanted
    assert lab.dspa.plan(imported, "sun").prompt_latents


NUMBERED = "and must list output latents by number, as [3, 17]"


@pytest.mark.parametrize(
    ("latents", "kinds"),
    [
        (torch.ones(40, dtype=torch.bool), "torch.bool"),
        ([True, False], "bool"),
        ([1.5, 2], "float, int"),
        ("12", "str"),
        (3, "int"),
        (torch.tensor(3), "torch.int64"),
    ],
    ids=["mask", "booleans", "floats", "string", "number", "scalar"],
)
def test_latents_that_are_no_list_of_numbers(latents: Any, kinds: str) -> None:
    # Not through `apply`: under the tests' shape checks its annotations would speak first.
    for name, both in (("only", (latents, None)), ("never", (None, latents))):
        text = sentence(allowed_latents, *both, 40)
        assert text == f"{name}= holds {kinds}, {NUMBERED}"


def test_latents_as_any_list_of_numbers() -> None:
    few = [3, 17]
    for listed in (few, {3, 17}, iter(few), torch.tensor(few), np.array(few, dtype=np.uint8)):
        allowed: Any = allowed_latents(listed, None, 40)
        assert torch.nonzero(allowed).flatten().tolist() == few
    none: Any = allowed_latents([], None, 40)
    assert not none.any()


def test_scalars_of_numpy_and_torch_are_numbers(lab: Lab) -> None:
    plain = lab.dspa.plan(lab.map, "sun moon", k_diff=3, alpha=0.25)
    scalars: dict[str, Any] = {"k_diff": np.int64(3), "alpha": torch.tensor(0.25)}
    other = lab.dspa.plan(lab.map, "sun moon", **scalars)
    assert plain.ablate == other.ablate
    assert len(plain.ablate) == 3


@pytest.mark.parametrize("length", [2.5, "3", True, [None]])
def test_a_prompt_length_that_is_no_number_of_tokens(lab: Lab, length: Any) -> None:
    with lab.dspa.attach(lab.hf, lab.map, prompt_length=length):
        text = sentence(lab.hf, torch.tensor([lab.ids("sun moon")]))
    assert text == (
        f"prompt_length is {length!r}, and must be a number of tokens, or a list with one for each "
        "row"
    )


@pytest.mark.usefixtures("unchecked")
def test_a_prompt_that_is_none(lab: Lab) -> None:
    assert sentence(generated, lab, prompt=5, error=TripleError) == (
        "a prompt of type int came, where a string or a list of chat messages was expected: give "
        "one of the two"
    )


def test_layers_that_are_no_numbers(lab: Lab) -> None:
    def changed(role: str, layer: Any) -> DSPA:
        # The annotations of the tests' shape checks would speak first.
        own = object.__new__(DSPA)
        given = {"input_layer": tiny.LAYER_IN, "output_layer": tiny.LAYER_OUT, role: layer}
        inspect.unwrap(DSPA.__init__)(
            own, lab.nn, input_sae=lab.sae_in, output_sae=lab.sae_out, **given
        )
        return own

    for role, layer in (("input_layer", "1"), ("output_layer", 2.0), ("input_layer", True)):
        assert sentence(changed, role, layer) == (
            f"{role} is {layer!r}, and must be the number of a decoder block, from 0"
        )


def test_what_is_no_list_of_triples(lab: Lab) -> None:
    row = {"prompt": "sun", "chosen": "tea", "rejected": "fog"}
    tail = "read rows with load_triples(rows)"
    text = sentence(inspect.unwrap(prepare), [row], lab.tok, 512, "error", error=TripleError)
    assert text == f"triple 0 is a dict, where a PreferenceTriple was expected: {tail}"
    for source, kind in (("triples.jsonl", "str"), (iter(lab.triples), "list_iterator")):
        text = sentence(inspect.unwrap(prepare), source, lab.tok, 512, "error", error=TripleError)
        assert text == (
            f"triples came as a {kind}, where a list of them was expected: read a source with "
            "load_triples(...), or put them in a list"
        )


@pytest.mark.filterwarnings("ignore:the map is fitted on:dspa_nn.DSPAWarning")
def test_fit_refuses_a_prompt_without_countable_tokens_if_strict(lab: Lab) -> None:
    triples = [*lab.triples[:2], PreferenceTriple("", "tea", "fog")]  # BOS alone
    kept = lab.dspa.fit(triples, progress=False)
    assert kept.n_triples == 2
    assert kept.provenance["skipped"] == {"no counted prompt token": 1}
    text = sentence(lab.dspa.fit, triples, strict=True, progress=False, error=CountsError)
    assert text.startswith("triple 2 has a prompt in which no token counts (1 such with ")


@pytest.mark.usefixtures("unchecked")
def test_rows_are_triples_without_being_asked_to(lab: Lab) -> None:
    import pandas

    rows = [
        {"prompt": t.prompt, "chosen": t.chosen, "rejected": t.rejected} for t in lab.triples[:4]
    ]
    wanted = lab.dspa.count(lab.triples[:4], progress=False)
    for source in (rows, pandas.DataFrame(rows), iter(rows), iter(lab.triples[:4])):
        counts = lab.dspa.count(source, progress=False)
        assert len(counts) == 4
        one, other = (table.prompt("all")[0].toarray() for table in (counts, wanted))
        assert np.array_equal(one, other)
    assert lab.dspa.fit(rows, progress=False).n_triples == 4
    text = sentence(lab.dspa.fit, [{"prompt": "sun"}], error=TripleError)
    assert text.startswith("the list, row 0: 'chosen' and 'rejected' is missing")
