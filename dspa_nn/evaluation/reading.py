"""Reading grade of texts, by formulas that count characters, words and sentences."""

from typing import Any, Literal

from dspa_nn.checks import check_choice
from dspa_nn.errors import DSPAError

Formula = Literal["ari", "coleman-liau"]


def reading_grade(text: str, formula: Formula = "ari") -> float:
    """The US school grade at which a text is read with ease; NaN of a text without words.

    Example:
        >>> hard = "Photosynthesis converts electromagnetic energy into chemical energy."
        >>> reading_grade(hard) > reading_grade("The cat sat. It saw a dog. It ran.")
        True

    Args:
        text: English prose.
        formula: "ari", the automated readability index, or "coleman-liau". Both are those of the
            package `textstat` that need no word list.

    Raises:
        DSPAError: no such formula, or `textstat` is not installed.
    """
    check_choice("formula", formula, ("ari", "coleman-liau"), DSPAError)
    try:
        import textstat  # an extra
    except ImportError as error:
        raise DSPAError(
            f"reading grades need textstat ({error}): pip install 'dspa-nn[style]' brings it"
        ) from error
    package: Any = textstat
    if not any(letter.isalnum() for letter in text):
        return float("nan")
    if formula == "ari":
        return float(package.automated_readability_index(text))
    return float(package.coleman_liau_index(text))
