"""Keywords of `DSPA`'s methods: what a type checker reads is what the table of settings says."""

from typing import Any, get_args, get_type_hints

import pytest

from dspa_nn import CountsError, MapError, SteeringError
from dspa_nn.graph import settings
from dspa_nn.graph.settings import SETTINGS
from dspa_nn.steering import options
from tests import steer_zoo
from tests.steer_zoo import Lab

LISTS = {
    "plan": (options.PlanOptions, (*settings.PLAN_SETTINGS, *options.CHOICES)),
    "apply": (options.SteeringOptions, (*settings.APPLY_SETTINGS, *options.CHOICES)),
    "fit": (
        options.FitKeywords,
        (*settings.FIT_SETTINGS, "strict", *options.CountingOptions.__annotations__, "cache"),
    ),
}


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.mark.parametrize("call", LISTS)
def test_the_keywords_are_those_of_the_table(call: str) -> None:
    kind, names = LISTS[call]
    assert set(get_type_hints(kind)) == set(names)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_types_and_texts_agree_with_the_table(setting: Any) -> None:
    kinds = [
        kind
        for kind in (options.SteeringOptions, options.FitKeywords)
        if setting.name in get_type_hints(kind)
        # An extension that is given as gate= in a run is no setting.
        and ("fit" in setting.calls or kind is options.SteeringOptions)
        and (set(setting.calls) != {"fit"} or kind is options.FitKeywords)
    ]
    assert kinds
    for kind in kinds:
        hint = get_type_hints(kind)[setting.name]
        if setting.kind == "choice":
            words = [word for part in (hint, *get_args(hint)) for word in get_args(part)]
            assert {word for word in words if isinstance(word, str)} == set(setting.choices)
        else:
            assert {"number": float, "count": int}[setting.kind] in get_args(hint)


PARENTS = {
    options.PlanOptions: None,
    options.SteeringOptions: options.PlanOptions,
    options.RunOptions: options.SteeringOptions,
    options.CountingOptions: None,
    options.CountOptions: options.CountingOptions,
}


@pytest.mark.parametrize("kind", PARENTS, ids=lambda kind: kind.__name__)
def test_every_keyword_is_described_where_it_is_declared(kind: Any) -> None:
    parent: Any = PARENTS[kind]
    inherited = set() if parent is None else set(get_type_hints(parent))
    for name in set(get_type_hints(kind)) - inherited:
        assert f"\n        {name}: " in kind.__doc__, name


MISSPELT = (
    (SteeringError, "plan", lambda lab: lab.dspa.plan(lab.map, "sun", alpa=3),
     "plan takes no alpa (did you mean 'alpha'?); it takes alpha, k_prompt, k_diff, mode, "
     "prompt_rule, only, never, gate, score, select, edit"),
    (SteeringError, "attach", lambda lab: lab.dspa.attach(lab.hf, lab.map, alpa=1),
     "attach takes no alpa (did you mean 'alpha'?); it takes what apply takes"),
    (SteeringError, "mode", lambda lab: lab.dspa.attach(lab.hf, lab.map, mode="abblate"),
     "mode is 'abblate', and must be one of ablate, augment, both (did you mean 'ablate'?)"),
    (MapError, "fit", lambda lab: lab.dspa.fit(lab.triples, percentle=50),
     "fit takes no percentle (did you mean 'percentile'?); it takes percentile, k_diff, gate, "
     "sparsify, max_entries, prompt_tokens, strict, remote, token_budget, overlong, refused, "
     "checkpoint, progress, cache"),
    (CountsError, "count", lambda lab: lab.dspa.count(lab.triples, shrad=1),
     "count takes no shrad (did you mean 'shard'?); it takes remote, token_budget, overlong, "
     "refused, checkpoint, progress, shards, shard"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("error", "call", "wanted"),
    [(e, c, w) for e, _, c, w in MISSPELT],
    ids=[m[1] for m in MISSPELT],
)
def test_what_is_misspelt_is_blamed_on_the_call_with_the_nearest_right_name(
    lab: Lab, error: type[Exception], call: Any, wanted: str
) -> None:
    with pytest.raises(error) as caught:
        call(lab)
    assert str(caught.value) == wanted


def test_apply_names_the_nearest_right_keyword_too(lab: Lab) -> None:
    with (
        pytest.raises(SteeringError, match=r"apply takes no promt \(did you mean 'prompt'\?\); it"),
        lab.nn.generate("sun", max_new_tokens=1),
    ):
        lab.dspa.apply(lab.map, promt="sun")  # pyright: ignore[reportCallIssue]


def test_keywords_left_out_or_none_take_the_same_values(lab: Lab) -> None:
    plain = lab.dspa.plan(lab.map, "sun moon")
    none: Any = dict.fromkeys((*settings.PLAN_SETTINGS, *options.CHOICES))
    assert lab.dspa.plan(lab.map, "sun moon", **none).latents == plain.latents
    with lab.dspa.attach(lab.hf, lab.map, positions=None) as edits:
        assert edits.options["positions"] == settings.DEFAULTS["positions"]
