"""Every example in a docstring runs and prints what it says, on tiny models.

The names that an example takes as given are those of `scene`. Examples that need the embedded
model say `from_preset`, and run with the slow tests.
"""

import ast
import doctest
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dspa_nn.saes import types
from tests import eval_zoo, tiny
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "dspa_nn"
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# The embedded model; the costs of a whole one; a whole receipt: left out by `make check`.
SLOW = ("from_preset", "preset_costs(", "= evaluate(", "_step(", "CostTable(")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


class Example(NamedTuple):
    """A docstring with an example in it, and where it stands."""

    name: str
    text: str
    path: Path
    line: int


def examples() -> list[Example]:
    return [
        example
        for path in sorted(PACKAGE.rglob("*.py"))
        for example in inside(
            ast.parse(path.read_text()),
            ".".join(path.relative_to(REPOSITORY).with_suffix("").parts),
            path,
        )
    ]


def inside(node: Any, name: str, path: Path) -> Iterator[Example]:
    text = ast.get_docstring(node) if isinstance(node, DOCUMENTED) else None
    if text and ">>>" in text:
        yield Example(name, text, path, getattr(node, "lineno", 1))
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from inside(child, f"{name}.{child.name}", path)


def as_params(example: Example) -> Any:
    slow = any(call in example.text for call in SLOW)
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(example, id=example.name.removeprefix("dspa_nn."), marks=marks)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What examples take as given: a tiny model and what is made from it."""
    import numpy as np
    import torch

    import dspa_nn as dn
    from dspa_nn.baselines import Subject, VectorMethod, fit_caa
    from dspa_nn.evaluation import encode, swapped
    from dspa_nn.steering import DSPAMethod

    dspa, triples = eval_zoo.dspa(), eval_zoo.triples(20)
    counts = eval_zoo.counts(20)
    folder = tmp_path_factory.mktemp("saes") / "sae"
    tiny.saes(dspa.model._module, "topk")[0].save_model(folder)
    sweep = eval_zoo.sweep()
    sweep.count(triples, progress=False)
    vector = fit_caa(dspa, triples)
    public = {name: getattr(dn, name) for name in dn.__all__}
    return public | {
        "dn": dn,
        "np": np,
        "torch": torch,
        "dspa": dspa,
        "model": dspa.model,
        "hf_model": dspa.model._module,
        "tokenizer": dspa.facts.tokenizer,
        "triples": triples,
        "counts": counts,
        "folder": folder,  # of an SAE that SAELens saved
        "map": counts.fit(percentile=50),
        "early": eval_zoo.sae(0),
        "later": eval_zoo.sae(1),
        "late": eval_zoo.sae(2),
        "sweep": sweep,
        "swept": sweep.counted,
        "prompt": dspa.render(triples[0].prompt),
        "DSPAMethod": DSPAMethod,
        "vector": vector,
        "vector_method": VectorMethod("difference of means", Subject(dspa), vector),
        "tuned": DSPAMethod("tuned", dspa, counts.fit(percentile=50)),
        "encode": encode,
        "swapped": swapped,
        "effects": eval_zoo.effects(),
    }


@pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning")  # a tiny map may steer nothing
@pytest.mark.parametrize("example", [as_params(example) for example in examples()])
def test_an_example_runs_as_it_is_printed(
    example: Example, scene: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ".".join(example.path.relative_to(REPOSITORY).with_suffix("").parts)
    names = vars(import_module(home.removesuffix(".__init__"))) | scene
    if home == "dspa_nn.imports":  # the SAE of the scene that is called late hides its function
        names |= {"late": import_module(home).late}
    test = doctest.DocTestParser().get_doctest(
        example.text, names, example.name, str(example.path), example.line
    )
    monkeypatch.chdir(tmp_path)
    # An example that registers a type of SAE leaves none behind.
    monkeypatch.setattr(types, "_registered", dict(types._registered))
    heard: list[str] = []
    failed = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=heard.append).failed
    assert not failed, "".join(heard)
