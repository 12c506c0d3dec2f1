"""How many examples hypothesis draws: fewer in `make check`, all in `make test`.

`make check` runs with `--hypothesis-profile=check`; without it a test draws what it asks for.
"""

from hypothesis import settings

settings.register_profile("check", max_examples=10)


def examples(most: int) -> int:
    """What a test asks for, or the profile's number where that is less."""
    return min(most, settings().max_examples)
