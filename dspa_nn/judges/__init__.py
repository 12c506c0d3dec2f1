"""Language models that judge or explain, over any OpenAI-compatible endpoint, cached on disk."""

from dspa_nn.judges.cache import ReplyCache
from dspa_nn.judges.endpoint import Endpoint, Message
from dspa_nn.judges.judge import Judge, Spend
from dspa_nn.judges.reply import Reply

__all__ = ["Endpoint", "Judge", "Message", "Reply", "ReplyCache", "Spend"]
