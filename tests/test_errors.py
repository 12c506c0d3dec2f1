"""How the error of another library is quoted in a sentence of ours."""

import pytest

from dspa_nn.errors import first_line


@pytest.mark.parametrize(
    ("error", "plain", "named"),
    [
        (ValueError("no such file.\n  Try again."), "no such file", "ValueError: no such file"),
        (OSError("  it went wrong:\nthere"), "it went wrong", "OSError: it went wrong"),
        (RuntimeError(), "RuntimeError", "RuntimeError"),
        (KeyError("k"), "'k'", "KeyError: 'k'"),
    ],
)
def test_the_first_line_of_a_foreign_error(error: Exception, plain: str, named: str) -> None:
    assert first_line(error) == plain
    assert first_line(error, named=True) == named
