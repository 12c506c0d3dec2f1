"""Whatever the public functions are given, what they raise is of one family.

Each call below gets one argument, or several, replaced by junk: what JSON, pandas and a slip of the
finger produce. It may succeed; it may raise a `DSPAError`, or a `TypeError` for a call that has no
such signature; nothing else. `pytest tests/test_fuzz.py --hypothesis-seed=0` repeats a run.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jaxtyping import config

from dspa_nn import (
    DSPA,
    ActivationCounts,
    ConditionalDifferenceMap,
    DSPAError,
    Job,
    PreferenceTriple,
    demo_triples,
    load_triples,
)
from dspa_nn.counts import merge_shards
from dspa_nn.prompts import render
from dspa_nn.saes import load_sae
from tests import steer_zoo, tiny
from tests.examples import examples
from tests.steer_zoo import Lab

EXAMPLES = 40
# Its fixtures are of the module, and models are slow.
QUIET: Any = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]

TEXT = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["", "\0", "\ud800", "~", "~nobody-here", "a" * 300, "user", "[{", "nan", "<bos>"]
    ),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 60), st.just(2**70), st.floats(), TEXT,
    st.binary(max_size=3), st.builds(object), st.just(type),
    st.builds(np.float64, st.floats()), st.builds(np.int64, st.integers(-3, 60)),
    st.just(float("nan")),
)  # fmt: skip
MESSAGES = st.lists(
    st.dictionaries(st.sampled_from(["role", "content", "x"]), SCALARS, max_size=3), max_size=3
)
JUNK: st.SearchStrategy[Any] = st.one_of(
    SCALARS, MESSAGES,
    st.lists(SCALARS, max_size=3), st.tuples(SCALARS, SCALARS, SCALARS),
    st.dictionaries(st.sampled_from(["prompt", "chosen", "rejected", "role"]), SCALARS, max_size=4),
    st.builds(np.array, st.lists(st.integers(-2, 60), max_size=3)),
    st.builds(torch.tensor, st.lists(st.integers(-2, 60), max_size=3)),
    st.builds(torch.tensor, st.lists(st.floats(), max_size=3)),
    st.builds(Path, st.sampled_from(["", "no", "a" * 300])),
    st.builds(set), st.builds(lambda: iter([1])), st.builds(torch.nn.Identity),
)  # fmt: skip
ROWS = st.lists(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("prompt", "chosen", "rejected", "score"), JUNK)
    ),
    min_size=1,
    max_size=2,
)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture(autouse=True, scope="module")
def _unchecked() -> Iterator[None]:
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


Call = Callable[[Lab, Any, str, Path], Any]


def build(lab: Lab, name: str, value: Any) -> DSPA:
    own: dict[str, Any] = {"input_sae": lab.dspa.input_sae, "output_sae": lab.dspa.output_sae}
    own |= {"input_layer": tiny.LAYER_IN, "output_layer": tiny.LAYER_OUT}
    return DSPA(lab.nn, **(own | {name: value}))


def apply(lab: Lab, name: str, value: Any) -> None:
    with lab.nn.generate("sun moon", max_new_tokens=1, do_sample=False):
        lab.dspa.apply(lab.map, **{name: value})


def quiet(name: str, value: Any) -> dict[str, Any]:
    return {"progress": False, name: value}


FIT = ("percentile", "k_diff", "gate", "sparsify", "max_entries", "prompt_tokens", "strict")
RUN = ("alpha", "k_prompt", "k_diff", "mode", "prompt_rule", "only", "never", "positions", "prompt",
       "prompt_length", "gate", "score", "select", "edit")  # fmt: skip
PLAN = RUN[:7]
MAP = ("rows", "columns")
CALLS: dict[str, tuple[tuple[str, ...], Call]] = {
    "DSPA": (
        (
            "input_layer",
            "output_layer",
            "input_sae",
            "output_sae",
            "payload_dtype",
            "sae_device",
            "same_model_as",
            "defaults",
        ),
        lambda lab, v, n, _: build(lab, n, v),
    ),
    "from_preset": (("name",), lambda lab, v, *_: DSPA.from_preset(v, lab.nn)),
    "render": (("prompt",), lambda lab, v, *_: lab.dspa.render(v)),
    "response": (("response",), lambda lab, v, *_: lab.dspa.render("sun", v)),
    "render alone": (("prompt",), lambda lab, v, *_: render(lab.tok, v)),
    "count": (("triples",), lambda lab, v, *_: lab.dspa.count(v, progress=False)),
    "count with": (
        ("token_budget", "overlong", "shards", "shard", "checkpoint"),
        lambda lab, v, n, _: lab.dspa.count(lab.triples[:2], **quiet(n, v)),
    ),
    "fit": (FIT, lambda lab, v, n, _: lab.dspa.fit(lab.triples[:2], **quiet(n, v))),
    "counts.fit": (FIT, lambda lab, v, n, _: lab.counts.fit(**{n: v})),
    "counts.subset": (("indices",), lambda lab, v, *_: lab.counts.subset(v)),
    "counts.merge": (("other",), lambda lab, v, *_: lab.counts.merge(v)),
    "plan": (PLAN, lambda lab, v, n, _: lab.dspa.plan(lab.map, "sun", **{n: v})),
    "plan of": (("prompt",), lambda lab, v, *_: lab.dspa.plan(lab.map, v)),
    "plan with": (("map",), lambda lab, v, *_: lab.dspa.plan(v, "sun")),
    "attach": (RUN, lambda lab, v, n, _: lab.dspa.attach(lab.hf, lab.map, **{n: v})),
    "attach with": (("map",), lambda lab, v, *_: lab.dspa.attach(lab.hf, v)),
    "attach to": (("model",), lambda lab, v, *_: lab.dspa.attach(v, lab.map)),
    "payload": (("map",), lambda lab, v, *_: lab.dspa.payload(v)),
    "map.restrict": (MAP, lambda lab, v, n, _: lab.map.restrict(**{n: v})),
    "map.top": (("n",), lambda lab, v, *_: lab.map.top(v)),
    "map.score": (("latents",), lambda lab, v, *_: lab.map.score(v)),
    "map.weights": (("latents",), lambda lab, v, *_: lab.map.weights(v)),
    "from_dense": (("A",), lambda _, v, *__: ConditionalDifferenceMap.from_dense(v)),
    "load_triples": (("source",), lambda _, v, *__: load_triples(v)),
    "load_triples with": (
        ("chat", "split", "strict", "limit"),
        lambda _, v, n, __: load_triples([("a", "b", "c")], **{n: v}),
    ),
    "triple": (("value",), lambda _, v, *__: PreferenceTriple(v, v, "c")),
    "demo_triples": (("split",), lambda _, v, *__: demo_triples(v)),
    "load_sae": (("source",), lambda _, v, *__: load_sae(v)),
    "Job.load": (("path",), lambda _, v, *__: Job.load(v)),
    "map.load": (("folder",), lambda _, v, *__: ConditionalDifferenceMap.load(v)),
    "counts.load": (("folder",), lambda _, v, *__: ActivationCounts.load(v)),
    "merge_shards": (("folder",), lambda _, v, *__: merge_shards(v)),
    "map.save": (("folder",), lambda lab, v, *_: lab.map.save(v)),
    "counts.save": (("folder",), lambda lab, v, *_: lab.counts.save(v)),
}


def refuse_others(call: Callable[[], Any], folder: str) -> None:
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("ignore")
        patched.chdir(folder)
        patched.setenv("HOME", folder)
        try:
            call()
        except (DSPAError, TypeError) as error:
            text = str(error)
            assert text
            # A TypeError is for a wrong signature alone: no call here has one.
            assert isinstance(error, DSPAError), f"TypeError: {text}"  # noqa: PT017


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=examples(EXAMPLES), deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_one_argument_of_junk(lab: Lab, name: str, data: st.DataObject) -> None:
    slots, call = CALLS[name]
    slot, value = data.draw(st.sampled_from(slots)), data.draw(JUNK)
    with tempfile.TemporaryDirectory() as folder:
        refuse_others(lambda: call(lab, value, slot, Path(folder)), folder)


@settings(max_examples=examples(200), deadline=None, suppress_health_check=QUIET)
@given(rows=ROWS, chat=st.booleans())
def test_rows_of_junk(rows: list[Any], chat: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        refuse_others(lambda: load_triples(rows, chat=chat), folder)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_apply_with_one_setting_of_junk(lab: Lab, data: st.DataObject) -> None:
    slot, value = data.draw(st.sampled_from(RUN)), data.draw(JUNK)
    with tempfile.TemporaryDirectory() as folder:
        refuse_others(lambda: apply(lab, slot, value), folder)
