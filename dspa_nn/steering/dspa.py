"""DSPA: a model and its two SAEs; count, fit, plan, apply."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dspa_nn.counts.table import ActivationCounts
from dspa_nn.maps.map import ConditionalDifferenceMap
from dspa_nn.models.presets import get_preset, load_model
from dspa_nn.steering.hooks import Attachment, attach
from dspa_nn.steering.log import EditLog, warn_if_unsteered
from dspa_nn.steering.pair import ModelAndSAEs, Planner
from dspa_nn.steering.plan import Plan
from dspa_nn.triples import PreferenceTriple


class DSPA(ModelAndSAEs):
    """Dynamic SAE steering for preference alignment (arXiv 2603.21461) of one model.

    Example:
        >>> import dspa_nn as dn
        >>> dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
        >>> map = dspa.fit(dn.load_triples("triples.jsonl", chat=True))
        >>> with dspa.model.generate("Tell me about volcanoes.", max_new_tokens=32) as tracer:
        ...     edits = dspa.apply(map)
        ...     ids = tracer.result.save()
        >>> print(dspa.model.tokenizer.decode(ids[0]), edits)

    Args:
        model: an nnsight `TransformersModel` of a decoder-only language model.
        input_sae: a SAELens SAE, a folder that SAELens saved, or "release/sae_id".
        output_sae: the same.
        payload_dtype: cast both SAEs, here and on NDIF, to a dtype such as "bfloat16": less is
            sent, and results are no longer exactly those of the SAEs as published.
        input_layer: 0-based decoder block whose output the input SAE reads
            (`blocks.L.hook_resid_post`).
        output_layer: the same for the output SAE; not before the input layer.
        sae_device: where both SAEs encode; None puts each beside the layer that it reads, and
            leaves one that is on a GPU already.

    Raises:
        SAEError: an SAE that cannot be used, or that belongs to another layer, width or model.
        SteeringError: layers that do not exist or are in the wrong order.
    """

    @classmethod
    def from_preset(
        cls,
        name: str,
        model: Any = None,
        *,
        dispatch: bool = True,
        payload_dtype: str | None = None,
        sae_device: Any = None,
    ) -> "DSPA":
        """Build from published or tuned settings.

        Example:
            >>> dspa = DSPA.from_preset("smollm2-135m-instruct")

        Args:
            name: smollm2-135m-instruct (embedded), gemma-2-2b, gemma-2-9b or qwen3-8b.
            model: an nnsight model to use in place of the one that the preset names.
            dispatch: load the model's weights; without them bytes can be counted (`payload`), and
                a model with a hub id can be run on NDIF.
            payload_dtype, sae_device: as for `DSPA`.

        Raises:
            DSPAError: no such preset.
        """
        preset = get_preset(name)
        built = load_model(preset, dispatch=dispatch) if model is None else model
        return cls(built, payload_dtype=payload_dtype, sae_device=sae_device, **preset.settings())

    def count(
        self,
        triples: Sequence[PreferenceTriple],
        *,
        remote: bool = False,
        token_budget: int | None = None,
        overlong: str = "truncate",
        checkpoint: str | Path | None = None,
        progress: bool | None = None,
        shards: int = 1,
        shard: int = 0,
    ) -> ActivationCounts:
        """Run the model over the triples and count on how many tokens each latent is active.

        Example:
            >>> counts = dspa.count(triples, checkpoint="counts-run")
            >>> map = counts.fit(percentile=75)

        This is the only step that runs the model; everything after it is arithmetic on the
        counts (docs/method.md 3.1 and 3.2).

        Args:
            triples: what `load_triples` returns, or any sequence of `PreferenceTriple`.
            remote: run on NDIF: one job for every two batches, two in flight; encoding happens
                there, and sparse counts come back.
            token_budget: padded tokens to a pass, 4096 by default. Batches are planned from the
                whole source: the same budget gives the same table byte for byte.
            overlong: what to do with a triple longer than the context: "truncate" (oldest
                messages first), "skip" or "error".
            checkpoint: folder for finished batches; a run that was cut off goes on from there.
            progress: show a progress bar; None shows it on a terminal.
            shards: count one of so many parts of the plan. All of them, merged in any order, are
                the table of a single run byte for byte; a part may be empty. One checkpoint
                folder serves them all.
            shard: which part, from 0.

        Raises:
            CountsError: no triples, a checkpoint of another run, or no such shard.
            TripleError: a triple that cannot be rendered.
        """
        from dspa_nn.counts.run import CountRun

        run = CountRun(self, triples, token_budget=token_budget, overlong=overlong)
        return run.count(
            shards=shards, shard=shard, remote=remote, checkpoint=checkpoint, progress=progress
        )

    def fit(
        self,
        triples: Sequence[PreferenceTriple],
        *,
        percentile: float | int | None = None,
        k_diff: int | None = None,
        gate: str = "active",
        sparsify: str = "paper",
        max_entries: int | None = None,
        prompt_tokens: str | None = None,
        remote: bool = False,
        strict: bool = False,
        **counting: Any,
    ) -> ConditionalDifferenceMap:
        """Count, then fit the conditional-difference map A = (1/N) sum_k g(x_k) drho_k^T.

        Example:
            >>> map = dspa.fit(triples, percentile=90)

        The keywords are those of `ActivationCounts.fit` and of `DSPA.count`
        (docs/method.md 3; arXiv 2603.21461, section 3.2), but for shards, which are merged first.
        """
        from dspa_nn.steering.fit import fit_triples

        options = {
            "percentile": percentile, "k_diff": k_diff, "gate": gate, "sparsify": sparsify,
            "max_entries": max_entries, "prompt_tokens": prompt_tokens, "strict": strict,
        }  # fmt: skip
        return fit_triples(self, triples, options, {"remote": remote, **counting})

    def apply(
        self,
        map: ConditionalDifferenceMap | Plan | Sequence[Plan],
        *,
        alpha: float | int | None = None,
        k_prompt: int | None = None,
        k_diff: int | None = None,
        mode: str | None = None,
        prompt_rule: str | None = None,
        prompt: Any = None,
        positions: str = "response",
        prompt_length: int | Sequence[int] | None = None,
        only: Iterable[int] | None = None,
        never: Iterable[int] | None = None,
        planner: Planner | None = None,
    ) -> EditLog:
        """Steer the model call of the tracing context around this line.

        Example:
            >>> prompt = dspa.render([{"role": "user", "content": "I passed my exam!"}])
            >>> with dspa.model.generate(prompt.ids, max_new_tokens=32) as tracer:
            ...     edits = dspa.apply(map, prompt=prompt)
            ...     ids = tracer.result.save()

        Args:
            map: what `fit` returned; or what `plan` made with it (one plan a row), which spares
                the run the input SAE: then alpha and positions alone may be given here.
            alpha: size of an edit in units of M_t, the token's strongest latent. k_prompt: prompt
                latents that vote. k_diff: latents planned in each direction. mode: ablate, augment
                or both. prompt_rule: density, gated or centred (docs/method.md 4). None takes the
                preset's value, or the paper's.
            prompt: what `render` returned, or what it takes (a list of them for a batch): tells
                content from markup in a chat prompt.
            positions: "response", from the last prompt token on, or "all".
            prompt_length: in `trace`: tokens of the prompt, BOS included, an int or one a row.
            only: output latents allowed, before the k_diff are chosen.
            never: output latents barred.
            planner: `planner(record, options) -> (augment, ablate)` in place of the paper's
                selection: int64 [rows, k] each, padded with -1; `record.scores` is [rows, d_out].

        Returns:
            The edit log, already saved: it fills as the model runs.

        Raises:
            SteeringError: outside a tracing context, too late in it, or settings out of range.
            MapError: a map of another model or SAE.
        """
        from nnsight import save

        from dspa_nn.graph.apply import apply

        steerer = self.steerer(
            map,
            {
                "alpha": alpha,
                "k_prompt": k_prompt,
                "k_diff": k_diff,
                "mode": mode,
                "prompt_rule": prompt_rule,
                "positions": positions,
            },
            only,
            never,
            planner,
        )
        prompts = None if prompt is None else self.prompt_batch(prompt)
        record = apply(steerer, self.paths, prompts, prompt_length, warn_if_unsteered)
        return save(EditLog(record))

    def plan(
        self,
        map: ConditionalDifferenceMap,
        prompt: Any,
        *,
        remote: bool | str = False,
        **options: Any,
    ) -> Any:
        """Say what would be steered for a prompt, without generating.

        Example:
            >>> prompt = dspa.render([{"role": "user", "content": "I passed my exam!"}])
            >>> plan = dspa.plan(map, prompt)
            >>> with dspa.model.generate(prompt.ids, max_new_tokens=32):
            ...     edits = dspa.apply(plan)

        Args:
            map: what `fit` returned.
            prompt: a string, chat messages, or what `render` returned; or a list of them, which
                is run as `generate` runs it, as one batch padded on the left.
            remote: count the prompt's active latents on NDIF. The input encoder is all that is
                sent for it, and `apply(plan)` then sends the output encoder and the decoder rows
                of the planned latents alone. The two requests steer as the one that sends all
                does: the same model counts the same tokens.
            options: the keywords of `apply`: alpha, k_prompt, k_diff, mode, prompt_rule, only,
                never.

        Returns:
            A `Plan`, or for a list of prompts a list of them.

        Raises:
            SteeringError: settings out of range, or a model that is not loaded here without
                remote=True.
            MapError: a map of another model or SAE.
        """
        from dspa_nn.steering.planning import plan

        return plan(self, map, prompt, options, remote)

    def attach(
        self,
        hf_model: Any,
        map: ConditionalDifferenceMap | Plan | Sequence[Plan],
        **options: Any,
    ) -> Attachment:
        """Make the same edit with plain PyTorch hooks, as a context manager, without nnsight.

        Example:
            >>> with dspa.attach(hf_model, map) as edits:
            ...     text = pipeline("text-generation", model=hf_model, tokenizer=tok)("Hello")

        See `dspa_nn.steering.hooks.attach` for the keywords.
        """
        return attach(self, hf_model, map, **options)
