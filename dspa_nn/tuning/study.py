"""The search: Optuna's study on disk, asked a batch at a time, so that a batch shares one pass."""

import os
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspa_nn.errors import EvaluationError, FileError, first_line
from dspa_nn.files import as_path, held, sha256_of_json
from dspa_nn.imports import untyped
from dspa_nn.progress import warn
from dspa_nn.tuning.space import Choice, Space, Trial, Vote

NAME = "dspa_nn.tuning"
_FILE = "study.log"


class Study:
    """Trials on disk, and what to try next.

    Example:
        >>> votes = {one.label: one for one in Space(percentile=(50,)).votes([(1, 2)])}
        >>> study = Study("tuning", Space(), votes, key={"data": "5f"}, kl=0.15, seed=0)
        >>> number, choice = study.ask(1)[0]
        >>> study.tell(number, Trial(choice, [0.1], [0.0], [0.01], 1.0, 0.02))
        >>> len(Study("tuning", Space(), votes, key={"data": "5f"}, kl=0.15, seed=0).trials)
        1

    The search is a tree-structured Parzen estimator under a constraint on KL. Its random numbers
    are drawn from the seed and from how many trials are done, so that a run which was cut off asks
    for the same as one which was not.

    Args:
        out: folder, with the journal of the study in it.
        space: what may be chosen.
        votes: ways to vote that passed the screening, by their label.
        key: what trials depend on; a study of something else is refused.
        kl: nats of KL per token that a setting may cost.
        seed: of the search.

    Raises:
        EvaluationError: Optuna is missing, or the folder holds the study of something else.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        space: Space,
        votes: Mapping[str, Vote],
        *,
        key: Mapping[str, Any],
        kl: float,
        seed: int,
    ) -> None:
        self.optuna = _optuna()
        self.space, self.votes, self.kl, self.seed = space, dict(votes), kl, seed
        self._asked: dict[int, Any] = {}
        folder: Path = as_path(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            storage, names = self._opened(folder / _FILE)
            if _without_torn_end(folder / _FILE, NAME in names):
                storage, names = self._opened(folder / _FILE)
            self.study: Any = (
                self.optuna.load_study(study_name=NAME, storage=storage)
                if NAME in names
                else self.optuna.create_study(
                    storage=storage, study_name=NAME, direction="maximize"
                )
            )
        except OSError as error:
            raise FileError(
                f"{folder / _FILE} cannot be written ({error.strerror or error}); choose another "
                "folder"
            ) from None
        except EvaluationError:
            raise
        except (ValueError, KeyError, AssertionError, RecursionError) as error:
            raise EvaluationError(
                f"{folder / _FILE} is no study of Optuna's, or a damaged one "
                f"({first_line(error, named=True)}); remove it, or choose another folder"
            ) from None
        known = sha256_of_json({"key": dict(key), "space": space.to_dict(), "votes": [*votes]})
        kept = self.study.user_attrs.get("key")
        if kept is None:
            self.study.set_user_attr("key", known)
        elif kept != known:
            raise EvaluationError(
                f"{folder} holds a study of other triples, another model or another space, or with "
                "another --kl, --keep or --seed; give another --out, or what it was begun with"
            )
        for trial in self._frozen("RUNNING"):  # a run that was cut off left these
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)

    def _opened(self, path: Path) -> tuple[Any, list[str]]:
        """The journal, and the studies in it. What is only opened is not written to."""
        storages = self.optuna.storages
        storage = storages.JournalStorage(storages.journal.JournalFileBackend(str(path.resolve())))
        return storage, [study.study_name for study in storage.get_all_studies()]

    @property
    def trials(self) -> list[Trial]:
        """What was measured, in order."""
        return [self._read(frozen) for frozen in self._frozen("COMPLETE")]

    def ask(self, count: int) -> list[tuple[int, Choice]]:
        """So many settings to measure together, none twice: fewer where the space is used up."""
        done = {str(trial.choice) for trial in self.trials}
        self.study.sampler = self._sampler(len(done))
        asked: list[tuple[int, Choice]] = []
        for _ in range(8 * count):
            if len(asked) == count:
                break
            trial = self.study.ask()
            choice = self._suggested(trial)
            if str(choice) in done:
                self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
                continue
            done.add(str(choice))
            self._asked[int(trial.number)] = trial
            asked.append((int(trial.number), choice))
        return asked

    def tell(self, number: int, measured: Trial) -> None:
        """Keep what a choice did."""
        trial = self._asked[number]
        for name in ("chosen", "rejected", "kl", "edits", "share"):
            trial.set_user_attr(name, getattr(measured, name))
        trial.set_constraint("kl", measured.damage - self.kl)
        self.study.tell(trial, measured.margin)

    def _sampler(self, done: int) -> Any:
        with warnings.catch_warnings():  # asking for a batch is called experimental
            warnings.simplefilter("ignore", self.optuna.exceptions.ExperimentalWarning)
            return self.optuna.samplers.TPESampler(
                seed=self.seed + done, constant_liar=True, n_startup_trials=16
            )

    def _suggested(self, trial: Any) -> Choice:
        space = self.space
        vote = self.votes[trial.suggest_categorical("vote", [*self.votes])]
        k_diff = int(trial.suggest_categorical("k_diff", list(space.k_diff)))
        mode = str(trial.suggest_categorical("mode", list(space.mode)))
        low, high = space.alpha
        alpha = float(trial.suggest_float("alpha", low, high, log=low < high))
        return Choice(vote, k_diff, mode, alpha).rounded()

    def _read(self, frozen: Any) -> Trial:
        given, kept = frozen.params, frozen.user_attrs
        vote = self.votes[given["vote"]]
        choice = Choice(vote, int(given["k_diff"]), given["mode"], float(given["alpha"])).rounded()
        return Trial(
            choice, kept["chosen"], kept["rejected"], kept["kl"], kept["edits"], kept["share"]
        )

    def _frozen(self, state: str) -> list[Any]:
        wanted = getattr(self.optuna.trial.TrialState, state)
        return self.study.get_trials(deepcopy=False, states=(wanted,))


def _without_torn_end(path: Path, ours: bool) -> bool:
    """Take off the last line of a journal where it was cut short, as by a loss of power.

    Optuna reads over such a line, and would write the next one behind it, so that neither could be
    read. What the line told, a part of one trial, is measured again. Returns whether there was one.

    Raises:
        EvaluationError: no study of ours was read before that line, so it may be anybody's file.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return False
    if not ours:
        raise EvaluationError(
            f"{path} is no study of Optuna's, or a damaged one (its last line was cut short); "
            "remove it, or choose another folder"
        )
    with path.open("r+b") as file:
        file.truncate(whole)
        os.fsync(file.fileno())
    warn(f"{path} was cut short in its last line, and the trial that it told of is measured again")
    return True


@contextmanager
def alone(folder: Path) -> Generator[None]:
    """Hold a folder for one search, and free its study of a lock that a killed search left.

    Optuna locks the journal with a link that a killed process leaves, and would wait for it. This
    lock ends with its process, so whoever has it may remove that link.

    Raises:
        EvaluationError: another run holds it.
    """

    def refuse() -> None:
        raise EvaluationError(
            f"another run is searching in {folder}; wait for it, or give another --out"
        )

    lock = untyped("filelock").FileLock(folder / "study.lock")
    with held(lock, refuse):
        if lock.is_locked:
            (folder / f"{_FILE}.lock").unlink(missing_ok=True)
        yield


def _optuna() -> Any:
    try:
        optuna: Any = untyped("optuna")
    except ImportError:
        raise EvaluationError(
            "Optuna, which searches, is not installed; pip install 'dspa-nn[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def as_json(trial: Trial) -> dict[str, Any]:
    """A trial as plain values for JSON, without its single triples.

    Example:
        >>> choice = Choice(Vote((9, 24), 50, "content", "centred", 32), 16, "both", 0.4)
        >>> as_json(Trial(choice, [0.1], [0.0], [0.01], 1.0, 0.02))["layers"]
        [9, 24]
    """
    return {
        **trial.choice.to_dict(),
        "margin": trial.margin,
        "chosen": sum(trial.chosen) / len(trial.chosen),
        "rejected": sum(trial.rejected) / len(trial.rejected),
        "kl": trial.damage,
        "edits": trial.edits,
        "share": trial.share,
        **trial.extra,
    }
