"""`dspa persona`, on a tiny model in a folder."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dspa_nn.cli.app import app
from dspa_nn.personas import AxisEffects, Persona
from tests import eval_zoo
from tests.cli.test_evaluate import folder as folder
from tests.cli.test_evaluate import model


def dspa(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.filterwarnings("ignore::dspa_nn.DSPAWarning")
def test_measured_made_shown_and_steered_with(folder: Path, tmp_path: Path) -> None:
    measured = dspa(
        "persona", "measure", folder / "fit.jsonl", "--out", tmp_path / "effects.json",
        "--prompts", 4, "--max-new-tokens", 4, "--checkpoint", tmp_path / "work", *model(folder),
    )  # fmt: skip
    assert measured.exit_code == 0, measured.output
    effects = AxisEffects.load(tmp_path / "effects.json")
    assert effects.prompts == 4
    assert str(effects) in measured.output
    path = tmp_path / "persona.json"
    axis = effects.axes[int(abs(effects.effect).max(0).argmax())]
    sign = 1 if effects.effect[:, effects.axes.index(axis)].max() > 0 else -1
    made = dspa(
        "persona", "make", f"{axis}={sign}", "--out", path, "--effects", tmp_path / "effects.json"
    )
    assert made.exit_code == 0, made.output
    assert Persona.load(path).axis_weights == {axis: sign}
    shown = dspa("persona", "show", path)
    assert repr(Persona.load(path)) in shown.output
    steered = dspa("steer", path, "sun moon", "--max-new-tokens", 4, *model(folder))
    assert steered.exit_code == 0, steered.output
    assert "Plan from" in steered.output


@pytest.mark.slow
def test_the_causal_check_is_printed_and_kept(folder: Path, tmp_path: Path) -> None:
    checked = dspa(
        "audit", folder / "map", "--causal", folder / "test.jsonl", "--max-new-tokens", 3,
        "--checkpoint", tmp_path, *model(folder),
    )  # fmt: skip
    assert checked.exit_code == 0, checked.output
    assert "each ablated alone on 10 triples" in checked.output
    assert "Spearman's rho, margin by column sum" in checked.output
    assert (tmp_path / "causal.json").is_file()


def test_what_cannot_be_done_is_one_sentence(tmp_path: Path) -> None:
    eval_zoo.effects().save(tmp_path / "effects.json")
    with_effects = ("--effects", tmp_path / "effects.json", "--out", tmp_path / "one.json")
    for arguments, sentence in (
        (("make", "friendly=1"), "dspa persona make writes a file, and --out is missing"),
        (("make", "friendly", *with_effects), "'friendly' came for a weight; write AXIS=WEIGHT"),
        (("make", "task=1", "task=2", *with_effects), "the axis task came twice"),
        (("make", "taks=1", *with_effects), "did you mean 'task'"),
        (("make", "task=nan", *with_effects), "the weight of 'task' is nan"),
        (("show", tmp_path / "none.json"), "there is no file"),
        (("make", "task=1", "--out", tmp_path), "which is a folder; give a file"),
        (
            ("measure", "x.jsonl", "--out", tmp_path / "effects.json" / "more.json"),
            "effects.json is a file; give a path below a folder",
        ),
        (
            ("measure", "x.jsonl", *with_effects, "--checkpoint", tmp_path / "effects.json"),
            "which is a file; give a folder",
        ),
    ):
        refused = dspa("persona", *arguments)
        assert refused.exit_code == 1
        assert sentence in refused.stderr
