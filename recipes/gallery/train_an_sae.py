# ---
# title: Train an SAE for a new model
# summary: Collect residual streams, train two small TopK SAEs, and fit a map with them.
# group: scale
# order: 4
# tags: [SAEs, SAELens, training]
# minutes: 1
# memory: 1.5
# needs: [matplotlib]
# ---

# %% [markdown]
# A model without published SAEs needs two of its own: one for an early-middle layer, one for a late
# one. This page trains very small ones for a minute, on the texts of the demo, to show every step;
# `recipes/train_embedded_saes.py` is the same at the size that the package ships, and says what
# it takes.
#
# ## Residual streams
# One pass of the model over the texts. Position 0 is left out: its norm is many times that of the
# others.

# %%
import matplotlib.pyplot as plt
import torch
from sae_lens import TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata

import dspa_nn as dn
from dspa_nn.models import as_local

dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
model, triples = as_local(dspa.model), dn.demo_triples()
LAYERS, WIDTH, ACTIVE = (12, 22), 1024, 16

states = {layer: [] for layer in LAYERS}
for triple in triples[:60]:
    ids = dspa.render(triple.prompt, triple.chosen).ids
    with torch.no_grad():
        hidden = model(ids[None], output_hidden_states=True).hidden_states
    for layer in LAYERS:
        states[layer].append(hidden[layer + 1][0, 1:])
states = {layer: torch.cat(rows) for layer, rows in states.items()}
print({layer: tuple(rows.shape) for layer, rows in states.items()})


# %% [markdown]
# ## Training
# Plain PyTorch, so that every step is in view: encode, keep the 16 largest, decode, and lower the
# squared error. SAELens' trainer does more, such as bringing dead latents back.


# %%
def train(rows, steps=150, lr=2e-3):
    torch.manual_seed(0)
    mean, scale = rows.mean(0), rows.std()
    data = (rows - mean) / scale
    decoder = torch.nn.functional.normalize(torch.randn(WIDTH, rows.shape[1]), dim=1)
    encoder = torch.nn.Parameter(decoder.T.clone())
    decoder, bias = torch.nn.Parameter(decoder), torch.nn.Parameter(torch.zeros(WIDTH))
    optimiser = torch.optim.Adam([encoder, decoder, bias], lr=lr)
    losses = []
    for _ in range(steps):
        batch = data[torch.randint(len(data), (512,))]
        pre = batch @ encoder + bias
        top = pre.topk(ACTIVE)
        latents = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
        loss = (latents @ decoder - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())  # 1 is what predicting the mean costs
    return mean, scale, encoder.detach(), decoder.detach(), bias.detach(), losses


trained = {layer: train(states[layer]) for layer in LAYERS}

# %%
fig, axes = plt.subplots()
for layer, parts in trained.items():
    axes.plot(parts[-1], label=f"layer {layer}")
axes.set_xlabel("step")
axes.set_ylabel("squared error, as a share of the variance")
axes.legend()
plt.show()


# %% [markdown]
# ## As SAELens knows them
# The scale goes into the encoder and the decoder, the mean into `b_dec`. With `save_model` it
# becomes a folder that `DSPA` and SAELens read.


# %%
def as_sae(layer):
    mean, scale, encoder, decoder, bias, _ = trained[layer]
    sae = TopKSAE(
        TopKSAEConfig(
            d_in=len(mean),
            d_sae=WIDTH,
            k=ACTIVE,
            apply_b_dec_to_input=True,
            metadata=SAEMetadata(hook_name=f"blocks.{layer}.hook_resid_post"),
        )
    )
    with torch.no_grad():
        sae.W_enc.copy_(encoder / scale)
        sae.b_enc.copy_(bias)
        sae.W_dec.copy_(decoder * scale)
        sae.b_dec.copy_(mean)
    return sae


own = dn.DSPA(
    dspa.model,
    input_sae=as_sae(12),
    output_sae=as_sae(22),
    input_layer=12,
    output_layer=22,
)

# %% [markdown]
# ## Steer with them
# A minute of training makes SAEs with which nothing can be concluded; the log says how often the
# planned latents fired at all.

# %%
map = own.fit(triples[:64], percentile=50, progress=False)
prompt = own.render([{"role": "user", "content": "Good news: I passed my driving test!"}])
with own.model.generate(prompt.ids, max_new_tokens=24, do_sample=False) as tracer:
    edits = own.apply(map, prompt=prompt, prompt_rule="centred", mode="both", alpha=0.3)
    ids = tracer.result.save()
print(own.facts.tokenizer.decode(ids[0, len(prompt.ids) :]))
print(edits)
