"""Steered conversations: each turn is planned from all of it, and only what is new is run."""

from dspa_nn.steering.conversation.answering import Way
from dspa_nn.steering.conversation.conversation import Conversation

__all__ = ["Conversation", "Way"]
