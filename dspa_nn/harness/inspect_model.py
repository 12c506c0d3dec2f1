"""A steered model as a provider of Inspect: `dspa/<preset>`."""

import threading
import time
from functools import cache
from typing import Any

from dspa_nn.errors import EvaluationError
from dspa_nn.harness.chat_requests import answer_chat, built_from
from dspa_nn.harness.inspect_settings import messages_from, sampling_from
from dspa_nn.imports import late, untyped


@cache
def inspect_provider() -> Any:
    """Make Inspect know the provider `dspa`, and return its class.

    Example:
        >>> inspect_provider()("smollm2-135m-instruct", map="my_map", alpha=0.4)  # doctest: +SKIP

    Inspect finds it by itself, by an entry point. The name after `dspa/` is a preset; model
    arguments (`-M`) are `map` with settings of the steering, or `unsteered=true`; anything else is
    refused. Requests are answered one at a time. What was edited is in the `metadata` of each
    output, under "dspa".

    Raises:
        EvaluationError: inspect_ai is not installed, or arguments that do not go together.
    """
    try:
        late("anyio")
        library: Any = untyped("inspect_ai.model")
    except ImportError as error:
        raise EvaluationError(
            f"Inspect is not to be had here ({error}); pip install 'dspa-nn[inspect]' in an "
            "environment of its own, since it wants an older fsspec"
        ) from None
    threads: Any = untyped("anyio.to_thread")

    class DSPAProvider(library.ModelAPI):
        """A model with SAEs, steered by a map or by any method, or not at all."""

        def __init__(
            self,
            model_name: str,
            base_url: str | None = None,
            api_key: str | None = None,
            config: Any = None,
            **arguments: Any,
        ) -> None:
            config = library.GenerateConfig() if config is None else config
            base: Any = super()
            base.__init__(model_name=model_name, base_url=base_url, api_key=api_key, config=config)
            if base_url is not None:
                raise EvaluationError(
                    f"base_url={base_url!r} came, and the provider dspa runs the model itself; "
                    "leave it out"
                )
            sampling_from(config)  # refused before a model is loaded
            self.built = built_from(model_name, arguments)
            self._one_at_a_time = threading.Lock()

        async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
            """Answer one request."""
            messages, sampling = messages_from(input, tools), sampling_from(config)
            return await threads.run_sync(self._answer, messages, sampling)

        def _answer(self, messages: Any, sampling: Any) -> Any:
            with self._one_at_a_time:
                begun = time.monotonic()
                answer = answer_chat(self.built, messages, sampling)
                took = time.monotonic() - begun
            output = library.ModelOutput.from_content(
                self.model_name, answer.text, stop_reason=answer.ended
            )
            read, made = answer.tokens
            output.usage = library.ModelUsage(
                input_tokens=read, output_tokens=made, total_tokens=read + made
            )
            output.time = took
            output.metadata = {"dspa": answer.edits}
            return output

        def should_retry(self, ex: Exception) -> bool:
            """Never: the same request fails in the same way."""
            return False

        def max_connections(self) -> int:
            """One request at a time: the model runs here."""
            return 1

        def connection_key(self) -> str:
            """Each model waits for itself alone."""
            return f"{self.model_name}-{id(self)}"

    return DSPAProvider
