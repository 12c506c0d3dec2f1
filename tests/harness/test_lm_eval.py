"""lm-eval's model class `dspa`: equal to its own class `hf` unsteered, to plain hooks steered."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from dspa_nn.errors import EvaluationError
from dspa_nn.harness import git_kept_quiet, model_class, run_lm_eval, write_tasks
from dspa_nn.personas import Persona
from dspa_nn.steering import DSPAMethod
from tests import eval_zoo

lm_eval = pytest.importorskip("lm_eval")
WORDS = "a the lake blue water is was runs two three cold warm house river and or not".split()
pytestmark = pytest.mark.filterwarnings("ignore")


def words(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=count))


def requests(count: int = 12) -> list[Any]:
    """Pairs of different lengths; the last two share all tokens and differ in the border alone."""
    draw = random.Random(0)
    texts = [
        (words(draw, draw.randint(2, 9)), " " + words(draw, draw.randint(1, 5)))
        for _ in range(count)
    ]
    return [*texts, ("the lake is", " blue water"), ("the lake is blue", " water")]


def scored(lm: Any, pairs: list[Any]) -> list[tuple[float, bool]]:
    from lm_eval.api.instance import Instance

    instances = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
    return lm.loglikelihood(instances, disable_tqdm=True)


def hf_class(**options: Any) -> Any:
    from lm_eval.models import huggingface

    dspa = eval_zoo.dspa()
    kind: Any = huggingface.HFLM
    return kind(
        pretrained=eval_zoo.model(),
        tokenizer=dspa.facts.tokenizer,
        logits_cache=False,
        device="cpu",
        **options,
    )


def ours(method: Any = None, batch_size: int = 4, **options: Any) -> Any:
    return model_class()(
        dspa=eval_zoo.dspa(), method=method, batch_size=batch_size, device="cpu", **options
    )


def method() -> DSPAMethod:
    return DSPAMethod("dspa", eval_zoo.dspa(), eval_zoo.counts().fit(percentile=50), eval_zoo.STEER)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("max_length", [None, 40])
def test_unsteered_it_equals_lm_evals_own_class(batch_size: int, max_length: int | None) -> None:
    theirs = scored(hf_class(batch_size=1, max_length=max_length), requests())
    mine = scored(ours(batch_size=batch_size, max_length=max_length), requests())
    for (value, greedy), (other, other_greedy) in zip(mine, theirs, strict=True):
        assert value == pytest.approx(other, abs=1e-4)
        assert greedy == other_greedy


@pytest.mark.parametrize(("batch_size", "max_length"), [(1, None), (5, None), (5, 40)])
def test_steering_starts_at_the_border_and_padding_never_counts(
    batch_size: int, max_length: int | None
) -> None:
    """Of a context that is too long the end is kept, and the border with it."""
    lm, how = ours(method(), batch_size=batch_size, max_length=max_length), method()
    mine = scored(lm, requests())
    plain = scored(ours(max_length=max_length), requests())
    assert [value for value, _ in mine] != pytest.approx([value for value, _ in plain], abs=1e-3)
    dspa = eval_zoo.dspa()
    for (context, continuation), (value, _) in zip(requests(), mine, strict=True):
        before, after = lm._encode_pair(context, continuation)
        if max_length is not None:
            before = before[-(max_length + 1 - len(after)) :]
        ids = torch.tensor([before + after])
        with (
            torch.no_grad(),
            dspa.attach(eval_zoo.model(), how.map, prompt_length=len(before), **how.options),
        ):
            logits = eval_zoo.model()(ids[:, :-1]).logits[0, len(before) - 1 :].log_softmax(-1)
        alone = logits.gather(1, torch.tensor(after)[:, None]).sum()
        assert value == pytest.approx(float(alone), abs=1e-4)


def test_generation_is_steered_too() -> None:
    from lm_eval.api.instance import Instance

    def said(lm: Any) -> list[str]:
        asked = [
            Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 5}), index)
            for index, text in enumerate(["the lake is", "a cold house and the river"])
        ]
        return lm.generate_until(asked, disable_tqdm=True)

    assert said(ours()) == said(hf_class(batch_size=2))
    steered = said(ours(method()))
    assert steered != said(ours())
    # One context is shorter than the other: its padding counts nowhere.
    assert steered == said(ours(method(), batch_size=1))


def questions(path: Path) -> dict[str, str]:
    draw = random.Random(1)
    arc = [
        {
            "query": f"Question: {words(draw, 4)}?",
            "choices": [f'{word}\'s "{other}"' for word, other in [draw.sample(WORDS, 2)] * 3],
            "gold": draw.randrange(3),
        }
        for _ in range(6)
    ]
    winogrande = [
        {"context_options": ["the lake", "the house"], "continuation": "is cold", "gold": n % 2}
        for n in range(4)
    ]
    for name, rows in (("arc", arc), ("winogrande", winogrande)):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {f"my_{name}": str(path / f"{name}.jsonl") for name in ("arc", "winogrande")}


@pytest.mark.slow
def test_tasks_on_local_files_run_and_equal_lm_evals_own_class(tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    names = write_tasks(tmp_path / "tasks", questions(tmp_path))
    assert names == ["dspa_paper", "my_arc", "my_winogrande"]
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    evaluate: Any = simple_evaluate
    results = [
        evaluate(
            model=lm,
            tasks=names[1:],
            task_manager=manager,
            bootstrap_iters=0,
            num_fewshot=1,
        )["results"]
        for lm in (ours(), hf_class(batch_size=4), ours(method()))
    ]
    for name in names[1:]:
        assert results[0][name]["acc,none"] == results[1][name]["acc,none"]
        assert 0 <= results[2][name]["acc,none"] <= 1


@pytest.mark.slow
def test_the_papers_tasks_are_known_to_lm_eval(tmp_path: Path) -> None:
    from lm_eval.tasks import TaskManager

    write_tasks(tmp_path)
    known = TaskManager(include_path=str(tmp_path)).all_tasks
    group = json.loads((tmp_path / "dspa_paper.yaml").read_text())
    assert {entry["task"] for entry in group["task"]} <= set(known)
    assert {entry["task"]: entry["num_fewshot"] for entry in group["task"]}["arc_easy"] == 25


def test_a_personas_file_is_named_as_a_map_is(tmp_path: Path) -> None:
    persona = Persona({"task": 1.0}, eval_zoo.effects())
    persona.save(tmp_path / "task.json")
    lm = model_class()(dspa=eval_zoo.dspa(), map=str(tmp_path / "task.json"), alpha=0.5)
    assert isinstance(lm._method.map, Persona)
    assert lm._method.map.axis_weights == {"task": 1.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give either preset= or dspa="),
        ({"preset": "smollm2-135m-instruct", "pretrained": "x"}, "pretrained=x came"),
        ({"dspa": True, "alpha": 0.5}, "alpha came without map="),
        ({"dspa": True, "batch_size": "auto"}, "batch_size is 'auto'"),
        ({"dspa": True, "map": "m", "method": True}, "map= and method= came"),
        ({"dspa": True, "alhpa": 0.5}, r"dspa takes no alhpa \(did you mean 'alpha'\?\); it takes"),
    ],
)
def test_arguments_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    if "dspa" in options:
        options = options | {"dspa": eval_zoo.dspa()}
    if "method" in options:
        options = options | {"method": method()}
    with pytest.raises(EvaluationError, match=words):
        model_class()(**options)


def test_files_of_questions_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.jsonl cannot be read \(No such file"):
        write_tasks(tmp_path, {"a": tmp_path / "none.jsonl"})
    (tmp_path / "other.jsonl").write_text('{"question": "?"}\n')
    (tmp_path / "list.jsonl").write_text("[1, 2]\n")
    with pytest.raises(EvaluationError, match=r"list\.jsonl, line 1 is no JSON object"):
        write_tasks(tmp_path, {"a": tmp_path / "list.jsonl"})
    with pytest.raises(EvaluationError, match=r"task name '\.\./a' came; give letters"):
        write_tasks(tmp_path, {"../a": tmp_path / "list.jsonl"})
    with pytest.raises(EvaluationError, match="has question; expected query, choices, gold or"):
        write_tasks(tmp_path, {"a": tmp_path / "other.jsonl"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gold": 2}, r"line 2 has gold 2; expected a whole number from 0 to 1, the right one of"),
        ({"gold": -1}, "has gold -1"),
        ({"gold": "B"}, "has gold 'B'"),
        ({"gold": None}, "has gold None"),
        ({"gold": True}, "has gold True"),
        ({"choices": "ab"}, "has choices 'ab'; expected a list of texts"),
        ({"choices": ["cold", ""]}, "has choices .*; expected a list of texts"),
        ({"choices": ["cold"]}, "has choices .*; expected a list of texts"),
        ({"query": ""}, "has query ''; expected a text"),
        ({"query": None}, "has query None; expected a text"),
    ],
)
def test_questions_that_lm_eval_would_score_as_wrong_answers_are_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    row = {"query": "the lake is", "choices": ["cold", "warm"], "gold": 1}
    path = tmp_path / "questions.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, **change}) + "\n")
    with pytest.raises(EvaluationError, match=words):
        write_tasks(tmp_path, {"a": path})
    path.write_text("\n" + json.dumps(row) + "\n{")
    with pytest.raises(EvaluationError, match=r"questions\.jsonl, line 3 is no JSON object"):
        write_tasks(tmp_path, {"a": path})
    path.write_text("\n")
    with pytest.raises(EvaluationError, match=r"questions\.jsonl holds no questions"):
        write_tasks(tmp_path, {"a": path})


def test_lm_evals_own_command_knows_the_model_class(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_lm_eval(["run", "--help"])
    assert ended.value.code == 0
    assert "--model_args" in capsys.readouterr().out
    from lm_eval.api.registry import get_model

    assert get_model("dspa") is model_class()


def test_more_shots_than_questions_get_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lm_eval.__main__.cli_evaluate", lambda: random.Random(0).sample(["a question"], 2)
    )
    with pytest.raises(EvaluationError, match="a task has fewer questions than the shots"):
        run_lm_eval(["run"])


@pytest.mark.slow
def test_an_unknown_task_gets_one_sentence() -> None:
    with pytest.raises(EvaluationError) as raised:
        run_lm_eval(["run", "--model", "dspa", "--model_args", "preset=x", "--tasks", "no_such"])
    assert str(raised.value) == (
        "lm-evaluation-harness refused its command line (Tasks not found: no_such); `dspa lm-eval "
        "-- ls tasks` lists its tasks, and --local TASK=FILE makes one of a file"
    )


@pytest.mark.slow
@pytest.mark.data
def test_the_embedded_model_scores_real_items_as_lm_evals_own_class_does(
    embedded: str, data: Path, tmp_path: Path
) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    import dspa_nn as dn

    dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
    hf_model: Any = dspa.model._module
    local = {
        name: str(data / "multiple_choice" / f"{name}.jsonl") for name in ("arc_easy", "winogrande")
    }
    names = write_tasks(tmp_path, {f"local_{name}": path for name, path in local.items()})[1:]
    settings: dict[str, Any] = {
        "tasks": names,
        "task_manager": TaskManager(include_path=str(tmp_path), include_defaults=False),
        "limit": 60,  # of each; two passes over these take a minute
        "bootstrap_iters": 0,
        "log_samples": True,
    }
    kind: Any = HFLM
    models = (
        model_class()(dspa=dspa, batch_size=8, device="cpu"),
        kind(pretrained=hf_model, tokenizer=dspa.facts.tokenizer, logits_cache=False, device="cpu"),
    )
    evaluate: Any = simple_evaluate
    mine, theirs = (evaluate(model=lm, **settings) for lm in models)
    for name in names:
        assert mine["results"][name]["acc,none"] == theirs["results"][name]["acc,none"]
        for one, other in zip(mine["samples"][name], theirs["samples"][name], strict=True):
            values = [float(answer[0]) for answer in one["filtered_resps"]]
            assert values == pytest.approx([float(a[0]) for a in other["filtered_resps"]], abs=1e-4)


def test_git_says_nothing_where_there_is_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from lm_eval import evaluator

    before = evaluator.get_git_commit_hash
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    with git_kept_quiet():
        assert evaluator.get_git_commit_hash() is None
        monkeypatch.setenv("PATH", "")
        assert evaluator.get_git_commit_hash() is None
    assert capfd.readouterr().err == ""
    assert evaluator.get_git_commit_hash is before
