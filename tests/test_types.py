"""What a type checker tells a user: pyright, strict, over a script as a user would write it.

Lines that it must refuse end in `# wrong: ...`, with words of what it says; on all others it finds
nothing. `# type: ...` is what it takes the argument of `reveal_type` for.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

SCRIPT = """
import dspa_nn as dn
from dspa_nn.steering import DSPAMethod, SteeringMethod, SteeringOptions

triples = dn.load_triples("triples.jsonl", chat=True)
dspa = dn.DSPA.from_preset("smollm2-135m-instruct", dispatch=False, payload_dtype="bfloat16")
reveal_type(dspa.model)  # type: TransformersModel
reveal_type(dspa.facts)  # type: ModelFacts
reveal_type(dspa.input_sae)  # type: LoadedSAE

counts = dspa.count(triples, checkpoint="run", shards=2, shard=0)
reveal_type(counts)  # type: ActivationCounts
dspa.count(triples, shrad=1)  # wrong: No parameter named "shrad"
dspa.count(triples, overlong="cut")  # wrong: "Literal['cut']" is not assignable
dspa.count(triples, shard="0")  # wrong: "Literal['0']" is not assignable to "int"

map = dspa.fit(triples, percentile=90, token_budget=2048)
reveal_type(map)  # type: ConditionalDifferenceMap
dspa.fit(triples, percentil=90)  # wrong: No parameter named "percentil"
dspa.fit(triples, gate="literl")  # wrong: "Literal['literl']" is not assignable
dspa.fit(triples, shards=2)  # wrong: No parameter named "shards"
reveal_type(counts.fit(sparsify="rows"))  # type: ConditionalDifferenceMap
counts.fit(percentle=90)  # wrong: No parameter named "percentle"

messages = [{"role": "user", "content": "I passed my exam!"}]
prompt = dspa.render(messages)
reveal_type(prompt)  # type: Rendered
plan = dspa.plan(map, messages, alpha=0.5)
reveal_type(plan)  # type: Plan
reveal_type(dspa.plan(map, "Hello"))  # type: Plan
reveal_type(dspa.plan(map, prompt, remote=True))  # type: Plan
reveal_type(dspa.plan(map, ["Hello", "Good day"]))  # type: list[Plan]
reveal_type(dspa.plan(map, [messages, messages]))  # type: list[Plan]
reveal_type(dspa.plan(map, [prompt, prompt]))  # type: list[Plan]
reveal_type(plan.ablate)  # type: list[tuple[int, float]]
reveal_type(plan.scores)  # type: Tensor
dspa.plan(map, "Hello", alpa=3)  # wrong: No overloads for "plan" match
dspa.plan(map, "Hello", positions="all")  # wrong: No overloads for "plan" match

# nnsight's decorator of `generate` has no types.
with dspa.model.generate(prompt.ids, max_new_tokens=4):  # pyright: ignore[reportUnknownMemberType]
    edits = dspa.apply(map, prompt=prompt, mode="both", only=[3, 17])
    dspa.apply(plan, positions="all")
    dspa.apply([plan, plan], prompt_length=[3, 4])
    dspa.apply(map, mode="abblate")  # wrong: "Literal['abblate']" is not assignable
    dspa.apply(map, alpa=1)  # wrong: No parameter named "alpa"
    dspa.apply(counts)  # wrong: "ActivationCounts" is not assignable
reveal_type(edits)  # type: EditLog
reveal_type(edits.plans)  # type: list[Plan]
reveal_type(edits.by_row())  # type: list[int]
for edit in edits:
    reveal_type(edit.latent)  # type: int
reveal_type(edits.to_pandas())  # type: DataFrame

with dspa.attach(dspa.model, map, alpha=1) as log:
    reveal_type(log)  # type: Attachment
    reveal_type(log.logs)  # type: deque[EditLog]
dspa.attach(dspa.model, map, alpa=1)  # wrong: No parameter named "alpa"
dspa.attach(dspa.model, map, prompt_rule="dense")  # wrong: "Literal['dense']" is not assignable

options: SteeringOptions = {"alpha": 1.0, "prompt_rule": "centred"}
method = DSPAMethod("tuned", dspa, map, options)
with method.steering([prompt]) as told:
    reveal_type(told)  # type: EditLog


def compare(methods: list[SteeringMethod]) -> None:
    for one in methods:
        with one.steering([prompt]) as told:
            reveal_type(told)  # type: EditLog | None


compare([method])
DSPAMethod("tuned", dspa, map, {"alpa": 1.0})  # wrong: "alpa" is an undefined item
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[tuple[str, str]]]:
    """(severity, message) of everything that pyright says, by line of the script."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "script.py").write_text(SCRIPT)
    settings: dict[str, Any] = {
        "include": ["script.py"],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(REPOSITORY)],
        # nnsight and sae-lens bring no types of their own.
        "reportMissingTypeStubs": False,
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    checker = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*checker, "-p", str(folder)], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    heard: dict[int, list[tuple[str, str]]] = {}
    for report in json.loads(done.stdout)["generalDiagnostics"]:
        assert Path(report["file"]).name == "script.py"
        line = report["range"]["start"]["line"]
        heard.setdefault(line, []).append((report["severity"], report["message"]))
    return heard


def marked(kind: str) -> list[Any]:
    """(line, what is expected) of the lines with such a mark."""
    return [
        pytest.param(number, text, id=line.split("  # ")[0].strip()[:50])
        for number, line in enumerate(SCRIPT.splitlines())
        for text in re.findall(rf"  # {kind}: (.*)$", line)
    ]


@pytest.mark.parametrize(("line", "wanted"), marked("wrong"))
def test_what_is_misspelt_is_refused(said: Any, line: int, wanted: str) -> None:
    errors = [message for severity, message in said.get(line, []) if severity == "error"]
    assert any(wanted in message for message in errors), errors


@pytest.mark.parametrize(("line", "wanted"), marked("type"))
def test_what_a_user_sees_has_a_type(said: Any, line: int, wanted: str) -> None:
    [(severity, message)] = said[line]
    assert severity == "information"
    assert message.endswith(f'is "{wanted}"')


def test_nothing_is_refused_that_is_right(said: Any) -> None:
    wrong = {param.values[0] for param in marked("wrong")}
    errors = {
        line: messages
        for line, messages in said.items()
        if line not in wrong and any(severity == "error" for severity, _ in messages)
    }
    assert not errors
