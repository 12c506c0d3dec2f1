"""What is refused is the toolkit's own error where that is installed, and travels where not."""

import ast
from pathlib import Path
from typing import Any

import pytest

import dspa_nn
from dspa_nn.errors import CountsError, MapError, SteeringError
from dspa_nn.graph.refusals import (
    REFUSALS,
    CountsRefusal,
    MapRefusal,
    SteeringRefusal,
    refuse,
)
from tests import steer_zoo
from tests.elsewhere import run_elsewhere

GRAPH = Path(dspa_nn.__file__).parent / "graph"


@pytest.mark.parametrize(
    ("kind", "error"),
    [(SteeringRefusal, SteeringError), (MapRefusal, MapError), (CountsRefusal, CountsError)],
)
def test_a_refusal_is_the_error_of_the_toolkit_where_that_is_installed(
    kind: Any, error: type[Exception]
) -> None:
    assert kind in REFUSALS
    raised = refuse(kind, "no")
    assert type(raised) is error
    assert str(raised) == "no"


def test_no_signature_carries_an_error_class() -> None:
    arguments = [
        f"{path.name}:{node.lineno}"
        for path in GRAPH.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.arg) and node.arg.endswith("error")
    ]
    assert not arguments


REFUSED = """
dspa, map = sent
for call in (
    lambda: dspa.apply(map),
    lambda: dspa.apply(map, alpa=3),
    lambda: dspa.steerer(map, {'alpha': -1, 'k_prompt': None, 'k_diff': None, 'mode': None,
                               'prompt_rule': None, 'positions': 'all'}, None, None, None),
    lambda: dspa.steerer(map, {'alpha': 1, 'k_prompt': None, 'k_diff': None, 'mode': None,
                               'prompt_rule': 'gated', 'positions': 'all'}, None, None, None),
):
    try:
        call()
    except ValueError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_refusal_is_raised_where_the_toolkit_is_not_installed(tmp_path: Path) -> None:
    lab = steer_zoo.lab("llama", "add")
    map = dspa_nn.ConditionalDifferenceMap.from_dense(lab.map.to_dense())
    done = run_elsewhere(REFUSED, (lab.dspa, map), tmp_path)
    lines = done.stdout.splitlines()
    kinds = [line.split()[0] for line in lines]
    assert kinds == [*["SteeringRefusal"] * 3, "MapRefusal"], done.stderr
    assert "apply takes no alpa (did you mean 'alpha'?); it takes alpha, k_prompt" in lines[1]
