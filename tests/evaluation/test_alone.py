"""Output latents edited one at a time, held against edits of the method's own and the oracle's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dspa_nn.errors import DSPAError
from dspa_nn.evaluation import (
    answer,
    answers_alone,
    axis_changes,
    edit_alone,
    fired,
    margins,
    rank_correlation,
    style_axes,
)
from tests import eval_zoo, tiny

TOKENS = 6


@pytest.fixture(scope="module")
def prompts() -> list[Any]:
    dspa = eval_zoo.dspa()
    return [dspa.render(one.prompt) for one in eval_zoo.triples(5, seed=4)]


@pytest.fixture(scope="module")
def said(prompts: list[Any]) -> Any:
    return answer(eval_zoo.dspa(), prompts, max_new_tokens=TOKENS)


@pytest.mark.parametrize("mode", ["ablate", "augment"])
def test_each_answer_is_that_of_a_run_with_that_latent_alone(
    prompts: list[Any], said: Any, mode: Any
) -> None:
    dspa = eval_zoo.dspa()
    active = fired(dspa, prompts, said)
    latents = [int(j) for j in np.argsort(-active.sum(0))[:6]]
    for one in answers_alone(
        dspa, prompts, latents, active, mode=mode, max_new_tokens=TOKENS, batch_size=7
    ):
        method = edit_alone(dspa, one.latent, mode=mode)
        wanted = answer(dspa, prompts, method, max_new_tokens=TOKENS)
        assert set(wanted.by_latent()) <= {one.latent}
        quiet = [index for index in range(len(prompts)) if index not in one.fires]
        assert [wanted.texts[index] for index in quiet] == [said.texts[index] for index in quiet]
        assert [wanted.texts[index] for index in one.fires] == one.texts


def test_what_fired_is_what_sae_lens_sees_from_the_prompts_last_token_on(
    prompts: list[Any], said: Any
) -> None:
    active, sae = fired(eval_zoo.dspa(), prompts, said), eval_zoo.sae(tiny.LAYER_OUT)
    late = 0
    for row, prompt, ids in zip(active, prompts, said.ids, strict=True):
        whole = torch.cat([prompt.prompt_ids, ids])
        with torch.no_grad():
            states = eval_zoo.model()(whole[None], output_hidden_states=True).hidden_states
            seen = sae.encode(states[tiny.LAYER_OUT + 1][0, prompt.prompt_length - 1 :]) > 0
        assert row.tolist() == seen.any(0).tolist()
        late += int((seen[0] & ~seen[1:].any(0)).sum())
    assert late  # some fire at the prompt's last token alone


def test_an_ablated_latent_is_gone_and_no_other_moved() -> None:
    dspa = eval_zoo.dspa()
    rows = eval_zoo.triples(3, seed=5)
    prompt = dspa.render(rows[0].prompt, rows[0].chosen)
    with dspa.model.trace(prompt.ids):
        edits = edit_alone(dspa, 3).apply(prompt=prompt)
    assert {(edit.latent, edit.after) for edit in edits} <= {(3, 0.0)}
    _, alone = margins(dspa, rows, [edit_alone(dspa, 3)])
    assert set(alone.by_latent) <= {3}
    assert np.all(alone.edits <= 1)


@pytest.mark.slow
def test_changes_are_scored_by_prompt_and_kept(
    prompts: list[Any], said: Any, tmp_path: Path
) -> None:
    dspa = eval_zoo.dspa()
    settings: Any = {"max_new_tokens": TOKENS, "axes": ["concise", "task"], "batch_size": 4}
    found = axis_changes(dspa, prompts, folder=tmp_path, **settings)
    active = fired(dspa, prompts, said)
    assert found.latents.tolist() == np.flatnonzero(active.any(0)).tolist()
    assert found.fires.tolist() == active[:, found.latents].sum(0).tolist()
    latent = int(found.latents[found.changed.argmax()])
    steered = answer(dspa, prompts, edit_alone(dspa, latent), max_new_tokens=TOKENS)
    for place, axis in enumerate(found.axes):
        one: Any = [axis]
        wanted = style_axes(steered.texts, one)[axis] - style_axes(said.texts, one)[axis]
        assert np.allclose(found.change[found.changed.argmax(), :, place], wanted)
    parts = sorted((tmp_path / "parts").iterdir())
    assert len(parts) > 1
    before = [path.read_bytes() for path in parts]
    parts[0].unlink()
    again = axis_changes(dspa, prompts, folder=tmp_path, unsteered=said, **settings)
    assert np.array_equal(again.change, found.change)
    for path, kept in zip(parts[1:], before[1:], strict=True):
        assert path.read_bytes() == kept


def test_latents_that_are_none_are_refused() -> None:
    with pytest.raises(
        DSPAError, match=r"output latent 4096 came, and the SAE has 40; give one from 0 to 39"
    ):
        edit_alone(eval_zoo.dspa(), 4096)


def test_rank_correlation_is_scipys_with_an_interval_over_columns() -> None:
    from scipy import stats

    random = np.random.default_rng(0)
    x = random.normal(size=(4, 30))
    y = x + random.normal(size=(4, 30))
    found = rank_correlation(x, y, resamples=300)
    wanted: Any = stats.spearmanr(x.ravel(), y.ravel())
    assert found.mean == pytest.approx(wanted.statistic)
    assert found.low < found.mean < found.high
    assert found.n == 30
    alone = rank_correlation(x[0], y[0], resamples=300)
    assert alone.high - alone.low > found.high - found.low
    assert np.isnan(rank_correlation([1, 1, 1], [1, 2, 3]).mean)
    assert torch.tensor(found.to_dict()["mean"]).isfinite()
