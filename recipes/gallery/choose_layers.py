# ---
# title: Choose layers in one pass
# summary: Count SAEs at six layers in one run of the model, and compare nine pairs of layers.
# group: evaluate
# order: 2
# tags: [layers, LayerSweep, ranking, margin]
# minutes: 1
# memory: 1.6
# needs: []
# ---

# %% [markdown]
# Which two layers should the SAEs read? A layer of the model does not depend on those above it, so
# one run up to the deepest layer can count every SAE on the way. `LayerSweep` does that: nine pairs
# of layers for little more than the price of one.
#
# ## SAEs at several layers
# The embedded model ships with SAEs at two layers only. For the others this recipe makes stand-ins
# **without training**: each latent is the direction of one token's hidden state, less the mean, and
# the 16 latents that are most alike fire on a token. They show how a sweep works, and which
# layers tell these triples apart a little. A choice that matters needs SAEs that were
# trained alike at every layer.

# %%
import nnsight
import torch
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata

import dspa_nn as dn
from dspa_nn.evaluation import rank_pairs, steer_pairs
from dspa_nn.steering import SteeringOptions

LATENTS, ACTIVE = 1024, 16
INPUTS, OUTPUTS = (6, 9, 12), (18, 21, 24)

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
model = dspa.model
triples = dn.demo_triples()

hidden: dict[int, list[torch.Tensor]] = {layer: [] for layer in (*INPUTS, *OUTPUTS)}
for triple in triples[60:84]:  # others than those that are counted below
    ids = dspa.render(triple.prompt, triple.chosen).ids
    with model.trace(ids[None]):
        outputs = nnsight.save([model.model.layers[layer].output for layer in hidden])
    for layer, output in zip(hidden, outputs, strict=True):
        states = output[0] if isinstance(output, tuple) else output
        hidden[layer].append(states.reshape(-1, states.shape[-1])[1:])  # the first token is odd


def without_training(layer: int) -> TopKSAE:
    states = torch.cat(hidden[layer])
    mean = states.mean(0)
    chosen = torch.randperm(len(states), generator=torch.Generator().manual_seed(layer))[:LATENTS]
    directions = torch.nn.functional.normalize(states[chosen] - mean, dim=-1)
    metadata = SAEMetadata(hook_name=f"blocks.{layer}.hook_resid_post")
    sae = TopKSAE(TopKSAEConfig(d_in=len(mean), d_sae=len(directions), k=ACTIVE, metadata=metadata))
    with torch.no_grad():
        sae.W_enc.copy_(directions.T)
        sae.W_dec.copy_(directions)
        sae.b_dec.copy_(mean)
        sae.b_enc.zero_()
    return sae


# %% [markdown]
# ## One run
# Input SAEs read the prompt, output SAEs the responses.

# %%
sweep = dn.LayerSweep(
    model,
    input_saes={layer: without_training(layer) for layer in INPUTS},
    output_saes={layer: without_training(layer) for layer in OUTPUTS},
)
counts = sweep.count(triples[:60], progress=False)
print(counts)

# %% [markdown]
# The counts of any pair are those of a run of that pair alone, byte for byte, and are an
# `ActivationCounts` like any other. All of them are held, and saved, once: `counts.save("sweep")`.

# %%
print(counts.counts(9, 24))

# %% [markdown]
# ## By ranking
# Each pair's map is fitted on 48 triples. It then ranks the 12 others: does the chosen response
# have more of what the map raises for this prompt? No model is run for that. *One difference* is
# the same without a map: one mean difference for all prompts. A pair whose map does not beat it has
# no use for the prompt.

# %%
pairs = rank_pairs(counts, range(48, 60), rule={"prompt_rule": "centred"}, percentile=50)
print(f"{'layers':>8}  by the map  one difference  the first less the second")
for pair in pairs:
    less = pair.over_one_difference
    layers = f"{pair.input_layer}->{pair.output_layer}"
    print(f"{layers:>8}  {pair.ranking.mean:10.2f}  {pair.of_one_difference.mean:14.2f}  {less}")

# %% [markdown]
# With 12 held-out triples the intervals are wide. And the best of nine looks better than it is: its
# figure has to be measured again on triples that chose nothing.
#
# ## By steering
# Ranking says what a map knows, and not what it does to the model. So the first two are steered on
# 4 of the held-out triples. `chosen` and `rejected` are the two parts of the margin's change.

# %%
settings: SteeringOptions = {"prompt_rule": "centred", "alpha": 1.0}
for pair in steer_pairs(sweep, pairs[:2], triples[48:52], settings):
    print(f"{pair.input_layer}->{pair.output_layer}  {pair.effect}")

# %% [markdown]
# Here the margin's rise is no gain: its interval holds 0, and the chosen responses become much less
# likely too, only less so than the rejected ones. Edits through stand-ins damage the text. The
# margin alone would have hidden that, and ranking, which runs no model, cannot see it.
#
# `sweep.dspa(9, 24)` is the `DSPA` of a pair, to steer with; `counts.fit(9, 24)` is its map. The
# same on the command line, with folders of SAEs or releases that SAELens lists:
#
# ```bash
# dspa sweep triples.jsonl --input-sae 7=FOLDER --input-sae 12=FOLDER --output-sae 24=FOLDER \
#     --held-out 100 --margin 50
# ```
