"""lm-evaluation-harness as a client: its own chat-completions class on a task that generates."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests import serve_zoo

pytest.importorskip("lm_eval")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

QUESTIONS = ["tea sea", "sun moon red", "oak elm fog ice", "run one two"]


def test_a_task_that_generates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    lines = [json.dumps({"question": one, "answer": "none"}) for one in QUESTIONS]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines) + "\n")
    task = {
        "task": "own_words",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "questions.jsonl")}},
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["~~"], "max_gen_toks": 5, "temperature": 0},
        "metric_list": [{"metric": "exact_match", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    (tmp_path / "own_words.yaml").write_text(json.dumps(task))
    engine = serve_zoo.engine(window=0.05)
    said: dict[str, list[str]] = {}
    evaluate: Any = simple_evaluate
    with serve_zoo.running(engine) as url:
        for name in ("warm", "unsteered"):
            arguments = f"model={name},base_url={url}/chat/completions,num_concurrent=4"
            result = evaluate(
                model="local-chat-completions",
                model_args=f"{arguments},max_retries=1,tokenized_requests=False",
                tasks=["own_words"],
                task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
                apply_chat_template=True,
                bootstrap_iters=0,
                log_samples=True,
            )
            said[name] = [one["resps"][0][0] for one in result["samples"]["own_words"]]
            assert result["results"]["own_words"]["exact_match,none"] == 0
    lab = serve_zoo.steer_zoo.lab("llama", "add")
    for question, text in zip(QUESTIONS, said["unsteered"], strict=True):
        prompt = lab.dspa.render([{"role": "user", "content": question}])
        ids = lab.hf.generate(
            prompt.ids[None], max_new_tokens=5, do_sample=False,
            eos_token_id=list(lab.dspa.facts.eos_ids),
        )[0, len(prompt.ids) :]  # fmt: skip
        assert text.strip() == lab.tok.decode(ids, skip_special_tokens=True).strip()
    assert said["warm"] != said["unsteered"]
