"""The one family of errors that the toolkit raises.

Every message is one sentence: what came, what was expected, what to do; `first_line` quotes other
libraries in it. docs/errors.md lists the messages class by class, read off the source, and
docs/troubleshooting.md goes by symptom.
"""


class DSPAError(Exception):
    """Base class of every error that `dspa_nn` raises on purpose."""


class TripleError(DSPAError, ValueError):
    """A source of preference triples that cannot be read as such."""


class SAEError(DSPAError, ValueError):
    """A sparse autoencoder that cannot be used, or not with this model."""


class MapError(DSPAError, ValueError):
    """A conditional-difference map that cannot be fitted, read or used here."""


class CountsError(DSPAError, ValueError):
    """Activation counts that cannot be taken, read, merged or resumed."""


class SteeringError(DSPAError, ValueError):
    """An `apply`, `attach` or `plan` that cannot do what was asked."""


class ExtensionError(DSPAError, ValueError):
    """A gate, score, selection or edit of one's own that cannot be registered or used."""


class FileError(DSPAError, OSError):
    """A file of ours that is missing, damaged, of a newer schema, or cannot be written."""


class NDIFError(DSPAError, RuntimeError):
    """A remote run that could not be sent, did not finish, or did not come back.

    `passing` says whether a later attempt may fare better: the server went away, or shed the job.
    """

    passing = False


class JudgeError(DSPAError, RuntimeError):
    """A judge that cannot be asked, refused, or did not answer.

    `passing` says whether a later run may fare better: the server was late, busy or away.
    `of_request`, whether it was this one request that was refused, such as one that is too long.
    """

    def __init__(self, message: str, *, passing: bool = False, of_request: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        self.of_request = of_request


class EvaluationError(DSPAError, ValueError):
    """Questions, answers or judgments of a benchmark that cannot be used as they are."""


class ServingError(DSPAError, RuntimeError):
    """A server that cannot start, or a request that it refuses or could not answer.

    `status`, `param` and `code` are those of the API's error shape: the status of HTTP, the field
    of the request that is at fault, and a word for programs.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


def first_line(error: BaseException, *, named: bool = False) -> str:
    """What another library's error says, in one line; named: with its class in front.

    >>> first_line(OSError("no such file.")), first_line(OSError("no such file"), named=True)
    ('no such file', 'OSError: no such file')

    An error without a message is told by its class.
    """
    name, lines = type(error).__name__, str(error).strip().splitlines()
    if not lines:
        return name
    line = lines[0].rstrip(".:")
    return f"{name}: {line}" if named else line


class DSPAWarning(UserWarning):
    """Something was done, but perhaps not what the user meant."""
