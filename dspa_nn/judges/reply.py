"""What a judge said, and what it cost."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One reply of an endpoint.

    Example:
        >>> Reply("Rating: [[7]]", 310, 6).text
        'Rating: [[7]]'

    Attributes:
        text: what was said; empty where the endpoint said nothing.
        prompt_tokens: as the endpoint counted them; 0 where it does not tell.
        completion_tokens: likewise.
    """

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)
