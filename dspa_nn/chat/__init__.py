"""Talking with a steered model in a terminal (`dspa chat`), the unsteered one beside it."""

from dspa_nn.chat.loop import run_chat
from dspa_nn.chat.sides import KeptSide, RemoteSide, Side
from dspa_nn.chat.talk import Piece, Talk
from dspa_nn.chat.why import Reason, reasons

__all__ = ["KeptSide", "Piece", "Reason", "RemoteSide", "Side", "Talk", "reasons", "run_chat"]
