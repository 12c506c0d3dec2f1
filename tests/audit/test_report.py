"""The report: what it shows of a run, that hostile text stays text, and what is refused.

How it looks and behaves in a browser is in test_browser.py.
"""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from dspa_nn import DSPAWarning, SteeringError, extension
from dspa_nn.audit import LatentMeaning, Snippet, report, votes_for
from dspa_nn.audit.gathering import rows_of
from dspa_nn.audit.meanings import known_meanings
from dspa_nn.audit.replay import replay
from dspa_nn.baselines import Subject, VectorMethod, fit_caa
from dspa_nn.errors import MapError
from dspa_nn.extensions import norm_preserving
from dspa_nn.personas import Persona
from dspa_nn.steering import EditLog
from tests import eval_zoo, steer_zoo
from tests.steer_zoo import SETTINGS, STEPS, Lab, by_nnsight

HOSTILE = (
    "</script><script>alert(1)</script> <img src=x onerror=alert(2)> {{ 7 * 7 }} {% raw %} "
    "\u202eevil\u202c \u200f \ud800 half \x1b[31m \x00 & \"quotes\" 'single'"
)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return steer_zoo.lab("llama", "add")


@pytest.fixture(scope="module")
def run(lab: Lab) -> Any:
    return by_nnsight(lab, [lab.ids(prompt) for prompt in lab.prompts(3)])


def data_of(path: Path) -> Any:
    found = re.search(r'id="data">(.*?)</script>', path.read_text(), re.S)
    assert found
    return json.loads(found[1])


def test_it_holds_every_edit_of_the_log(lab: Lab, run: Any, tmp_path: Path) -> None:
    path = report(run.log, tmp_path / "new" / "report.html", dspa=lab.dspa, map=lab.map)
    rows = data_of(path)["rows"]
    found = [
        (number, token[3])
        for number, row in enumerate(rows)
        for token in row["tokens"]
        if len(token) > 3
    ]
    assert len(found) == run.log.tokens == 3 * STEPS
    edits = [(number, *edit) for number, edits in found for edit in edits]
    wanted = [(edit.row, edit.latent, edit.before, edit.after) for edit in run.log]
    assert sorted(one[:2] for one in edits) == sorted(one[:2] for one in wanted)
    values = dict.fromkeys(one[:2] for one in wanted)
    assert values
    assert sum(one[3] for one in edits) == pytest.approx(sum(one[3] for one in wanted), rel=1e-4)


def test_tokens_are_the_texts_and_their_shares_the_logs(lab: Lab, run: Any) -> None:
    rows = rows_of([run.log], lab.tok, set())
    for number, row in enumerate(rows):
        ids = run.ids[number][-len(row.tokens) :]
        assert "".join(token.text for token in row.tokens) == lab.tok.decode(ids)
        assert row.answer == lab.tok.decode(ids[-STEPS:], skip_special_tokens=True).strip()
    shares = [token.share for row in rows for token in row.tokens if token.steered]
    assert sum(shares) == pytest.approx(float(run.log.shares().sum()), rel=1e-5)
    assert max(shares) == pytest.approx(float(run.log.shares().max()), rel=1e-5)


def test_what_a_log_does_not_hold_is_worked_out_again(lab: Lab, run: Any, tmp_path: Path) -> None:
    path = report(run.log, tmp_path / "report.html", dspa=lab.dspa, map=lab.map)
    data = data_of(path)
    for number, row in enumerate(data["rows"]):
        plan = run.log.plans[number]
        counts = {latent: count for latent, count, _ in plan.prompt_latents}
        seen = {latent: sum(latent in token[2] for token in row["tokens"] if len(token) > 2)
                for latent in counts}  # fmt: skip
        assert seen == counts  # prompt tokens of each voter, as the run counted them
        # Steered logits are those of the run itself: what was emitted had the highest.
        steered = [token for token in row["tokens"] if len(token) > 3]
        assert all(token[7] for token in steered)
        for token in steered:
            assert all(0 <= probability <= 1 for one in token[7] for probability in one[2:])
    assert "Unsteered" in path.read_text()


@pytest.mark.parametrize("system", [False, True])
def test_tokens_of_a_chats_template_have_no_votes(system: bool, tmp_path: Path) -> None:
    dspa, map = eval_zoo.dspa(), eval_zoo.counts().fit(percentile=50)
    before = [{"role": "system", "content": "sea oak"}] if system else []
    prompt = dspa.render([*before, {"role": "user", "content": "sun moon"}])
    with dspa.attach(eval_zoo.model(), map, prompt=prompt, alpha=0.1) as log:
        eval_zoo.model().generate(prompt.ids[None], max_new_tokens=2)
    [row] = data_of(report(log, tmp_path / "report.html", dspa=dspa, map=map))["rows"]
    voters = [token[2] if len(token) > 2 else [] for token in row["tokens"]]
    plan = log.plans[0]
    assert 0 < plan.counted_tokens < len(prompt.ids)
    counts = {latent: count for latent, count, _ in plan.prompt_latents}
    assert {latent: sum(latent in here for here in voters) for latent in counts} == counts
    outside = [here for here, inside in zip(voters, prompt.content, strict=False) if not inside]
    assert len(outside) > 4
    assert not any(outside)


def test_meanings_that_are_given_go_before_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {3: LatentMeaning(promotes=("glad",), fires_on=("sun",), explanation="joy")}
    monkeypatch.setattr("dspa_nn.audit.meanings.meanings_of", lambda sae: table)
    given = {3: LatentMeaning(promotes=("sad",), category="Content")}
    found = known_meanings({}, "output", [3, 4], given)
    assert found[3].promotes == ("sad",)
    assert found[3].fires_on == ("sun",)
    assert (found[3].explanation, found[3].category) == ("joy", "Content")
    assert not found[4].promotes


def test_of_a_persona_no_prompt_latent_is_said_to_have_voted(tmp_path: Path) -> None:
    dspa, persona = eval_zoo.dspa(), Persona({"direct": 1.0}, eval_zoo.effects())
    prompt = dspa.render("sun moon")
    fitted = eval_zoo.counts().fit(percentile=50)
    for map in (persona, 2 * persona, fitted + persona):
        with dspa.attach(eval_zoo.model(), map, prompt=prompt, alpha=0.1) as log:
            eval_zoo.model().generate(prompt.ids[None], max_new_tokens=2)
        path = report(log, tmp_path / "report.html", dspa=dspa, map=map)
        [row] = data_of(path)["rows"]
        alone = fitted not in [term for _, term in getattr(map, "terms", ())]
        assert row["same"] == alone
        assert any(len(token) > 2 and token[2] for token in row["tokens"]) != alone
        assert ("Votes of prompt latent 0 include" in path.read_text()) != alone


@pytest.mark.parametrize("summed", [False, True])
def test_votes_add_up_to_the_score(lab: Lab, summed: bool) -> None:
    map = lab.map + 0.5 * lab.counts.fit(percentile=80) if summed else lab.map
    plan = lab.dspa.plan(map, "sun moon", **{k: SETTINGS[k] for k in ("k_prompt", "k_diff")})
    assert plan.latents
    for latent in plan.latents:
        votes = votes_for(plan, map, latent)
        total = sum(vote.adds for vote in votes)
        assert total == pytest.approx(float(plan.scores[latent]), abs=1e-9)
        assert [abs(vote.adds) for vote in votes] == sorted(
            (abs(vote.adds) for vote in votes), reverse=True
        )
    with pytest.raises(MapError, match="give the map that was applied"):
        votes_for(plan, lab.map if summed else 2 * lab.map, plan.latents[0])


def test_hostile_text_is_shown_as_text(lab: Lab, run: Any, tmp_path: Path) -> None:
    meaning = LatentMeaning(
        promotes=(HOSTILE,), snippets=(Snippet(HOSTILE, HOSTILE, HOSTILE, 1.0),),
        explanation=HOSTILE, category=HOSTILE, evidence=HOSTILE, source=HOSTILE,
        note=HOSTILE, reliable=False, link="javascript:alert(3)",
    )  # fmt: skip
    latents = run.log.plans[0].latents
    path = report(
        run.log, tmp_path / "report.html", dspa=lab.dspa, map=lab.map, title=HOSTILE,
        unsteered=[HOSTILE] * 3, meanings=dict.fromkeys(latents, meaning),
    )  # fmt: skip
    text = path.read_bytes().decode("utf-8")
    assert text.count("<script") == 2  # the data, and the page's own
    assert "<img" not in text
    assert "49 " not in text.split("<h1>")[1].split("</h1>")[0]
    heading = unescape(text.split("<h1>")[1].split("</h1>")[0])
    assert "{{ 7 * 7 }} {% raw %} ⟨U+202E⟩evil⟨U+202C⟩ ⟨U+200F⟩ ⟨U+D800⟩ half" in heading
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200e\u200f\x00\x1b]", text)
    told = data_of(path)["meanings"]["output"][str(latents[0])]
    assert "link" not in told
    assert "<script>alert(1)</script>" in told["explanation"]


def test_an_empty_answer_is_called_so(run: Any, tmp_path: Path) -> None:
    text = report(run.log, tmp_path / "report.html", unsteered=["", "", "red"]).read_text()
    assert text.count('<span class="only">(nothing)</span>') == 2


def test_nothing_is_fetched_and_only_its_own_script_runs(run: Any, tmp_path: Path) -> None:
    text = report(run.log, tmp_path / "report.html").read_text()
    policy = unescape(re.findall(r'Content-Security-Policy" content="(.*?)"', text)[0])
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]+='", policy)
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', text)


def test_a_log_alone_says_what_is_left_out(lab: Lab, run: Any, tmp_path: Path) -> None:
    text = report(run.log, tmp_path / "report.html").read_text()
    assert "the report was made without dspa=." in text
    assert "the report was made without map=." in text
    foreign = EditLog(run.log._record)  # as a log from NDIF
    with pytest.raises(SteeringError) as caught:
        report(foreign, tmp_path / "report.html")
    assert str(caught.value) == (
        "the edit log comes without a tokenizer, as logs from NDIF do; give report dspa= or "
        "tokenizer="
    )
    assert report(foreign, tmp_path / "report.html", tokenizer=lab.tok).exists()


def test_several_logs_are_rows_one_after_another(lab: Lab, run: Any, tmp_path: Path) -> None:
    path = report([run.log, run.log], tmp_path / "report.html")
    assert len(data_of(path)["rows"]) == 6
    assert path.read_text().count("<option") == 6


def test_a_run_with_an_edit_of_ones_own_is_replayed_with_it(lab: Lab, tmp_path: Path) -> None:
    @extension("edit", name="strongest off")
    def off(
        latents: Float[Tensor, "batch position k"], signs: Float[Tensor, "batch 1 k"]
    ) -> Float[Tensor, "batch position k"]:
        return torch.where(signs < 0, 0, latents)

    prompt = lab.ids(lab.prompts(1)[0])
    with lab.dspa.attach(lab.hf, lab.map, edit=off) as log, torch.no_grad():
        lab.hf.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False)
    file = report(log, tmp_path / "report.html", dspa=lab.dspa, map=lab.map)
    assert "Logits are left out: the run was edited by strongest off, which a log" in unescape(
        file.read_text()
    )
    with lab.dspa.attach(lab.hf, lab.map, edit="paper") as named, torch.no_grad():
        lab.hf.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False)
    assert "Logits are left out" not in report(named, file, dspa=lab.dspa).read_text()
    rows = rows_of([log], lab.tok, set())
    assert replay(lab.dspa, rows, off) == []
    assert any(token.logits for token in rows[0].tokens)
    with pytest.raises(SteeringError, match="edit= is norm_preserving, and the log is of the edit"):
        report(log, file, dspa=lab.dspa, edit=norm_preserving)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "wrong",
    [
        {"title": 3}, {"map": "map"}, {"unsteered": [1]}, {"meanings": {3: "volcanoes"}},
        {"tokenizer": "gpt2"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)  # fmt: skip
def test_arguments_of_another_type_are_refused(run: Any, tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(SteeringError, match=f"{next(iter(wrong))} is .*; expected "):
        report(run.log, tmp_path / "report.html", **wrong)


def test_a_single_forward_has_no_answer_and_padding_no_tokens(lab: Lab, tmp_path: Path) -> None:
    rows = [lab.ids("sun moon"), lab.ids("red")]
    with lab.nn.trace(steer_zoo.padded(lab, rows)):
        log = lab.dspa.apply(lab.map, positions="all", **SETTINGS)
    path = report(log, tmp_path / "report.html", dspa=lab.dspa, map=lab.map)
    data = data_of(path)["rows"]
    assert [len(row["tokens"]) for row in data] == [len(row) for row in rows]
    assert all(len(token) > 3 for row in data for token in row["tokens"][1:])  # all but the BOS
    assert "Answers side by side" not in path.read_text()


def test_what_holds_no_edits_is_refused(lab: Lab, run: Any, tmp_path: Path) -> None:
    attachment = lab.dspa.attach(lab.hf, lab.map)
    with pytest.raises(SteeringError, match="whose run has not taken place; run the model under"):
        report(attachment, tmp_path / "report.html")
    dspa = eval_zoo.dspa()
    method = VectorMethod("mean", Subject(dspa), fit_caa(dspa, eval_zoo.triples(4)))
    prompt = dspa.render("sun")
    with method.steering([prompt]) as log:
        eval_zoo.model()(prompt.ids[None])
    with pytest.raises(SteeringError, match="which edits no latents; give the edit log of a DSPA"):
        report(log, tmp_path / "report.html")
    with pytest.raises(SteeringError, match="unsteered= holds 1 texts, and the log has 3 rows"):
        report(run.log, tmp_path / "report.html", unsteered="sun")
    with pytest.raises(SteeringError, match="asked of an empty list"):
        report([], tmp_path / "report.html")


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_log_is_refused(lab: Lab, tmp_path: Path) -> None:
    plan: Any = lab.dspa.plan(lab.map, "sun")
    with pytest.raises(SteeringError, match="a report was asked of a Plan; give the edit log"):
        report(plan, tmp_path / "report.html")


def test_a_run_without_edits_says_why(lab: Lab, tmp_path: Path) -> None:
    ids = torch.tensor([lab.ids("sun")])
    with pytest.warns(DSPAWarning), lab.dspa.attach(lab.hf, lab.map, alpha=0) as log:
        lab.hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=2)
    text = report(log, tmp_path / "report.html").read_text()
    assert "Nothing was edited: alpha is 0, so every edit leaves its latent as it is." in text
