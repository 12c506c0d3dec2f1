"""From a prompt to exactly the token ids that the model sees."""

from dspa_nn.prompts.dates import asks_for_date, rendered_on
from dspa_nn.prompts.formats import FORMATS, HUMAN_ASSISTANT, in_format
from dspa_nn.prompts.markup import markup_in, named
from dspa_nn.prompts.padding import batches_by_length, padded
from dspa_nn.prompts.pieces import token_texts
from dspa_nn.prompts.recognition import content_of, recognised
from dspa_nn.prompts.rendered import Rendered, is_batch
from dspa_nn.prompts.rendering import (
    Renderable,
    markup_of,
    render,
    warn_of_markup,
    warn_without_template,
)
from dspa_nn.prompts.rewritten import as_written
from dspa_nn.prompts.templates import PLAIN_TEMPLATE, chat_template
from dspa_nn.prompts.truncation import (
    SKIPPED,
    TRUNCATED,
    Fitted,
    Overlong,
    TooLongError,
    fit_to_context,
    render_to_fit,
)

__all__ = [
    "FORMATS",
    "HUMAN_ASSISTANT",
    "PLAIN_TEMPLATE",
    "SKIPPED",
    "TRUNCATED",
    "Fitted",
    "Overlong",
    "Renderable",
    "Rendered",
    "TooLongError",
    "as_written",
    "asks_for_date",
    "batches_by_length",
    "chat_template",
    "content_of",
    "fit_to_context",
    "in_format",
    "is_batch",
    "markup_in",
    "markup_of",
    "named",
    "padded",
    "recognised",
    "render",
    "render_to_fit",
    "rendered_on",
    "token_texts",
    "warn_of_markup",
    "warn_without_template",
]
