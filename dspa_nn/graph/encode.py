# pyright: basic
"""A sparse autoencoder's inference-time encode: plain tensors, a rule, and one function.

Each function repeats SAELens' operations in SAELens' order, so that the latents are equal to the
last bit on the same device. Plain classes and functions: this module is rebuilt from its source
where the package is not installed.
"""

import torch


class SAEType:
    """All that is particular to one type of SAE; `saes.register_sae_type` adds one.

    Attributes:
        name: what SAELens calls it (`cfg.architecture()`).
        latents: `latents(x, tensors, rule) -> [..., width]`; `x` `[..., d_model]` is normalised,
            in the SAE's dtype and on its device, and less `b_dec` where the config says so.
        tensors: names of the weights that `latents` reads, as SAELens' `state_dict` has them.
        settings: names of the config values that it reads, in `rule`.
        trained_as: types that exist in training only, and that SAELens saves as this one.
        tied: whether it also reads the decoder, as `tensors["dictionary"]`.
    """

    def __init__(self, name, latents, tensors=(), settings=(), trained_as=(), tied=False):
        self.name: str = name
        self.latents = latents
        self.tensors: tuple[str, ...] = tuple(tensors)
        self.settings: tuple[str, ...] = tuple(settings)
        self.trained_as: tuple[str, ...] = tuple(trained_as)
        self.tied: bool = tied


class Encoder:
    """One SAE's inference-time encode.

    Example:
        >>> encoder = dspa.input_sae.encoder
        >>> latents, scale = encoder.encode(torch.randn(2, 7, encoder.d_model))
        >>> latents.shape == (2, 7, encoder.width)
        True

    Args:
        rule: JSON-able values: architecture, width, d_model, dtype, normalize_activations,
            apply_b_dec_to_input, and what the architecture needs besides.
        tensors: name -> tensor, only those that the type reads.
        latents: `latents(x, tensors, rule)`, the `SAEType.latents` of the SAE's type. It travels
            with the encoder, so a type that is registered by a user runs on a server too. None
            takes that of the type of this module which the rule names.

    Attributes:
        width: number of latents.
        d_model: width of the residual stream.
        dtype: that of the SAE, in which everything runs.
        device: where the tensors lie.
    """

    def __init__(self, rule: dict, tensors: dict[str, torch.Tensor], latents=None):
        self.rule = rule
        self.tensors: dict[str, torch.Tensor] = tensors
        self.latents = SAE_TYPES[rule["architecture"]].latents if latents is None else latents
        self.width: int = rule["width"]
        self.d_model: int = rule["d_model"]
        self.dtype: torch.dtype = getattr(torch, rule["dtype"])
        self.device: torch.device = next(iter(tensors.values())).device

    def to(self, device: torch.device | str) -> "Encoder":
        """Move the tensors to `device`, in place as `torch.nn.Module.to` does; return self."""
        self.tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        self.device = next(iter(self.tensors.values())).device
        return self

    def on(self, device: torch.device | str) -> "Encoder":
        """The same encoder on `device`: itself where it is there already, else a copy."""
        tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        if all(tensors[name] is self.tensors[name] for name in tensors):
            return self
        return type(self)(self.rule, tensors, self.latents)

    def encode(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Encode hidden states `[..., d_model]` of any float dtype and device.

        Returns:
            `(latents [..., width], scale)`, in the SAE's dtype and on its device. `scale`
            `[..., 1]` is what a decoded change is multiplied by, the token's normalisation held at
            `hidden`'s value (docs/method.md 4.4); None stands for 1.
        """
        x = hidden.to(device=self.device, dtype=self.dtype)
        x, scale = _normalise(x, self.rule["normalize_activations"])
        if self.rule["apply_b_dec_to_input"]:
            x = x - self.tensors["b_dec"]
        return self.latents(x, self.tensors, self.rule), scale


def _normalise(x, how):
    if how == "constant_norm_rescale":
        coefficient = (x.shape[-1] ** 0.5) / x.norm(dim=-1, keepdim=True)
        return x * coefficient, 1 / coefficient
    if how == "layer_norm":
        x = x - x.mean(dim=-1, keepdim=True)
        std = x.std(dim=-1, keepdim=True)
        return x / (std + 1e-5), std
    return x, None


def _pre_activations(x, tensors):
    return x @ tensors["W_enc"] + tensors["b_enc"]


def _standard(x, tensors, rule):
    return _pre_activations(x, tensors).relu()


def _jumprelu(x, tensors, rule):
    pre = _pre_activations(x, tensors)
    return pre.relu() * (pre > tensors["threshold"]).to(pre.dtype)


def _gated(x, tensors, rule):
    gate = (x @ tensors["W_enc"] + tensors["b_gate"] > 0).to(x.dtype)
    magnitude = x @ (tensors["W_enc"] * tensors["r_mag"].exp()) + tensors["b_mag"]
    return gate * magnitude.relu()


def _rescaled(x, tensors):
    pre = _pre_activations(x, tensors)
    # Present only where rescale_acts_by_decoder_norm is set.
    return pre * tensors["decoder_norm"] if "decoder_norm" in tensors else pre


def _topk(x, tensors, rule):
    pre = _rescaled(x, tensors)
    values, indices = torch.topk(pre, k=rule["k"], dim=-1, sorted=False)
    return torch.zeros_like(pre).scatter_(-1, indices, values.relu())


def _abstopk(x, tensors, rule):
    pre = _rescaled(x, tensors)
    indices = torch.topk(pre.abs(), k=rule["k"], dim=-1, sorted=False).indices
    return torch.zeros_like(pre).scatter_(-1, indices, pre.gather(-1, indices))


def _matching_pursuit(x, tensors, rule):
    # Tied: the dictionary that the residual is matched with is also what decodes.
    dictionary = tensors["dictionary"]
    residual = x.reshape(-1, x.shape[-1])
    steps = rule["max_iterations"]
    if steps is None:
        steps = rule["d_model"]
    latents = residual.new_zeros(residual.shape[0], rule["width"])
    support = latents != 0
    done = support.any(dim=1)
    for _ in range(steps):
        with torch.no_grad():
            best = (residual @ dictionary.T).relu().max(dim=1, keepdim=True).indices
        atom = dictionary[best.squeeze(1)]
        value = (residual * atom).sum(dim=-1, keepdim=True).relu()
        value = value * (~done).unsqueeze(1).to(value.dtype)
        latents = latents.scatter_add(1, best, value)
        residual = residual - value * atom
        with torch.no_grad():
            if rule["stop_on_duplicate_support"]:
                now = latents != 0
                done = done | (now == support).all(dim=1)
                support = now
            if rule["residual_threshold"] > 0:
                done = done | (residual.norm(dim=-1) < rule["residual_threshold"])
            if done.all():
                break
    return latents.reshape(*x.shape[:-1], latents.shape[-1])


_TOP_K = ("k", "rescale_acts_by_decoder_norm")
_PURSUIT = ("residual_threshold", "max_iterations", "stop_on_duplicate_support")

# The types of SAELens that can be steered with, by name.
SAE_TYPES = {
    sae_type.name: sae_type
    for sae_type in (
        SAEType("standard", _standard, ("W_enc", "b_enc")),
        SAEType("gated", _gated, ("W_enc", "b_gate", "r_mag", "b_mag")),
        SAEType(
            "jumprelu",
            _jumprelu,
            ("W_enc", "b_enc", "threshold"),
            trained_as=("batchtopk", "matryoshka_batchtopk"),
        ),
        SAEType("topk", _topk, ("W_enc", "b_enc"), _TOP_K),
        SAEType("abstopk", _abstopk, ("W_enc", "b_enc"), _TOP_K),
        SAEType("matching_pursuit", _matching_pursuit, (), _PURSUIT, tied=True),
    )
}
