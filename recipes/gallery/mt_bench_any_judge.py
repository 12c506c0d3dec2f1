# ---
# title: MT-Bench with any judge
# summary: Answer two-turn questions, have any OpenAI-compatible judge rate them, read scores.
# group: evaluate
# order: 6
# tags: [MT-Bench, judge, OpenAI API]
# minutes: 1
# memory: 1.5
# needs: [eval]
# ---

# %% [markdown]
# The judge below is a **stub that rates by length**, so that this page needs no key and no network.
# Its scores mean nothing. Point `Endpoint` at a real one, and nothing else changes.
#
# ## A judge to try it with

# %%
import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class StubJudge(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rating = min(10, 1 + len(asked["messages"][-1]["content"]) // 300)
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": f"Rating: [[{rating}]]"},
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        return


server = HTTPServer(("127.0.0.1", 0), StubJudge)
threading.Thread(target=server.serve_forever, daemon=True).start()

# %% [markdown]
# ## Questions
# The folder has FastChat's layout. These two questions are made up; MT-Bench has 80.

# %%
folder = tempfile.TemporaryDirectory()
root = Path(folder.name)


def write(name, rows):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


questions = [
    ("writing", ["Write two sentences about rain.", "Now about snow."]),
    ("humanities", ["Name a poet.", "Why do people read poems?"]),
]
write(
    "question.jsonl",
    [
        {"question_id": 81 + number, "category": category, "turns": turns}
        for number, (category, turns) in enumerate(questions)
    ],
)
prompt = "Rate the answer from 1 to 10.\n[Question]\n{question}\n[Answer]\n{answer}"
second = "Rate the second answer.\n{question_1}\n{answer_1}\n{question_2}\n{answer_2}"
reference = "\n[Reference]\n"
templates = {
    "single-v1": prompt,
    "single-v1-multi-turn": second,
    "single-math-v1": prompt + reference + "{ref_answer_1}",
    "single-math-v1-multi-turn": second + reference + "{ref_answer_1}\n{ref_answer_2}",
}
write(
    "judge_prompts.jsonl",
    [
        {"name": name, "prompt_template": template, "system_prompt": "You are a fair judge."}
        for name, template in templates.items()
    ],
)
write("reference_answer/gpt-4.jsonl", [])

# %% [markdown]
# ## Answer, unsteered and steered
# Each turn is rendered from the whole conversation, and steered by a plan of its own.

# %%
import dspa_nn as dn
from dspa_nn.judges import Endpoint, Judge, ReplyCache
from dspa_nn.mt_bench import (
    MTBench,
    answer_questions,
    judge_answers,
    load_judgments,
    score_judgments,
)
from dspa_nn.steering import DSPAMethod

bench = MTBench.load(root)
dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
map = dspa.fit(dn.demo_triples()[:16], progress=False)
for name, method in (("unsteered", None), ("steered", DSPAMethod("steered", dspa, map))):
    answers = answer_questions(dspa, bench, root / "out", method, name=name, max_new_tokens=32)
    print(f"{name}: {answers[81][0]}")

# %% [markdown]
# ## Judge, and read the scores
# Every reply is kept: a run that was cut off goes on, and asks nothing twice.

# %%
url = f"http://127.0.0.1:{server.server_port}/v1"
judge = Judge(Endpoint(url, "stub"), ReplyCache(root / "replies.jsonl"))
for name in ("unsteered", "steered"):
    path = judge_answers(bench, root / "out", judge, name=name)
print(score_judgments(load_judgments(path), bench)[["turn 1", "turn 2", "mean"]].round(2))
print(judge.spend)
server.shutdown()
server.server_close()
folder.cleanup()
