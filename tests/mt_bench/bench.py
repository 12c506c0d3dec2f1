"""A question set of three, in FastChat's layout, with texts of our own."""

import json
from pathlib import Path
from typing import Any

QUESTIONS: list[dict[str, Any]] = [
    {"question_id": 1, "category": "writing", "turns": ["Describe a {lake}.", "Shorter."]},
    {"question_id": 2, "category": "math", "turns": ["What is 2 + 2?", "And times 3?"]},
    {"question_id": 3, "category": "stem", "turns": ["Why is ice slippery?", "Say it simply."]},
]
REFERENCES = [{"question_id": 2, "choices": [{"turns": ["4", "12"]}]}]
PROMPTS = [
    {
        "name": "single-v1",
        "system_prompt": "Be fair.",
        "prompt_template": "Q: {question} A: {answer}",
    },
    {
        "name": "single-math-v1",
        "system_prompt": "Be fair.",
        "prompt_template": "Q: {question} R: {ref_answer_1} A: {answer}",
    },
    {
        "name": "single-v1-multi-turn",
        "system_prompt": "Be fair to the second.",
        "prompt_template": "{question_1} > {answer_1} > {question_2} > {answer_2}",
    },
    {
        "name": "single-math-v1-multi-turn",
        "system_prompt": "Be fair to the second.",
        "prompt_template": "{ref_answer_1} {ref_answer_2} | {question_1} > {answer_1} > "
        "{question_2} > {answer_2}",
    },
]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def folder(root: Path, **changes: Any) -> Path:
    """Write the set; questions=, references= and prompts= replace a file's rows."""
    write(root / "question.jsonl", changes.get("questions", QUESTIONS))
    write(root / "reference_answer" / "gpt-4.jsonl", changes.get("references", REFERENCES))
    write(root / "judge_prompts.jsonl", changes.get("prompts", PROMPTS))
    return root


def answers(out: Path, name: str, turns: dict[int, list[str]]) -> None:
    rows = [
        {"question_id": n, "choices": [{"index": 0, "turns": said}]} for n, said in turns.items()
    ]
    write(out / "model_answer" / f"{name}.jsonl", rows)


SAID = {1: ["A blue one.", "Blue."], 2: ["4", "12"], 3: ["A film of water.", "It melts."]}
