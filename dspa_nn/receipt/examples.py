"""A few answers on the page: unsteered, under the map, and under the instruction."""

from html import escape

import numpy as np

from dspa_nn.evaluation import Outcome
from dspa_nn.receipt.figures import Measured
from dspa_nn.receipt.markup import with_new_words
from dspa_nn.receipt.methods import PREFIX

_SHOWN = 6


def answers_section(measured: Measured) -> str:
    """A few answers: the best, middle and worst by the first score that can tell, or by margin."""
    score = measured.scores[0] if measured.scores else ""
    by = f"{score}_toward" if score else "change"
    values = measured.map.values[by]
    places = [int(at) for at in np.argsort(values, kind="stable") if not np.isnan(values[at])]
    changed = [at for at in places if measured.map.values["answer_changed"][at]] or places
    most = min(_SHOWN, len(changed))
    spread = [round(place * (len(changed) - 1) / max(1, most - 1)) for place in range(most)]
    shown = [changed[len(changed) - 1 - place] for place in spread]
    kept = len(values) - int(measured.map.values["answer_changed"].sum())
    what = score or "the change of the margin"
    lead = (
        f"{len(values) - kept} of {len(values)} greedy answers change under the map. Shown are the "
        f"best, the worst and some between, by {what}; new words are marked."
    )
    entries = [_entry(measured, at, float(values[at])) for at in shown]
    return f"<h2>Answers</h2><p>{escape(lead)}</p>" + "".join(entries)


def _entry(measured: Measured, at: int, value: float) -> str:
    prompt = measured.inputs.test[at].prompt
    asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    lines = [("prompt", escape(asked)), ("unsteered", escape(measured.texts["unsteered"][at]))]
    plain = measured.texts["unsteered"][at]
    for outcome in _shown_beside(measured):
        marked = with_new_words(plain, measured.texts[outcome.name][at])
        lines.append((outcome.name, marked or "<em>(nothing)</em>"))
    lines[2] = (f"{lines[2][0]} ({value + 0.0:+.2f})", lines[2][1])
    cells = "".join(f"<span>{escape(name)}</span><span>{text}</span>" for name, text in lines)
    return f"<div class=answers>{cells}</div>"


def _shown_beside(measured: Measured) -> list[Outcome]:
    prefix = [one for one in measured.others if one.name == PREFIX]
    return [measured.map, *prefix]
