import ast
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dspa_nn.graph import encode as module
from dspa_nn.graph.encode import Encoder
from dspa_nn.saes import load_sae, sae_types
from tests import sae_zoo as zoo
from tests.examples import examples
from tests.tiny import NORMALISATIONS

pytestmark = pytest.mark.filterwarnings("ignore:the SAE .* was not folded:UserWarning")

HANDLED = tuple(sae_types())
RESCALED = [(name, True) for name in ("topk", "abstopk")]
TYPES = [(name, False) for name in HANDLED] + RESCALED


def build(architecture, rescale=False, **settings):
    if rescale:
        settings["rescale_acts_by_decoder_norm"] = True
    return zoo.build(architecture, **settings)


def relative(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize(("architecture", "rescale"), TYPES)
def test_encode_is_saelens_own_to_the_last_bit(architecture, rescale, normalise, apply_b_dec):
    sae = build(
        architecture,
        rescale,
        normalize_activations=normalise,
        apply_b_dec_to_input=apply_b_dec,
    )
    hidden = zoo.hidden(3, 11)
    latents, _ = load_sae(sae).encoder.encode(hidden)
    theirs = sae.encode(hidden)
    assert 0 < (theirs > 0).sum() < theirs.numel()
    assert torch.equal(latents, theirs)


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("normalise", NORMALISATIONS)
@pytest.mark.parametrize(("architecture", "rescale"), TYPES)
def test_decoded_change_is_the_difference_of_saelens_own_decodes(
    architecture, rescale, normalise, apply_b_dec
):
    sae = build(
        architecture,
        rescale,
        normalize_activations=normalise,
        apply_b_dec_to_input=apply_b_dec,
    )
    hidden = zoo.hidden(3, 11)
    loaded = load_sae(sae)
    latents, scale = loaded.encoder.encode(hidden)
    largest = latents.amax(dim=-1, keepdim=True)
    edited = torch.where(latents > 0, latents + 0.7 * largest, latents)
    edited[..., ::3] = (latents[..., ::3] - largest).clamp(min=0)
    ours = (edited - latents) @ loaded.decoder
    ours = ours if scale is None else ours * scale

    reference = zoo.in_float64(sae)
    decodes = []
    for features in (edited, latents):
        reference.encode(hidden.double())  # a decode forgets the token's norm
        decodes.append(reference.decode(features.double()))
    theirs = decodes[0] - decodes[1]
    assert relative(ours.double(), theirs) < 1e-6


@settings(max_examples=examples(60), deadline=None)
@given(
    type_=st.sampled_from(TYPES),
    normalise=st.sampled_from(NORMALISATIONS),
    seed=st.integers(0, 10**6),
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_random_shapes_and_spreads_encode_alike(type_, normalise, seed, shape, spread):
    sae = build(*type_, normalize_activations=normalise, seed=seed)
    hidden = spread * zoo.hidden(*shape, seed=seed + 1)
    latents, scale = load_sae(sae).encoder.encode(hidden)
    assert torch.equal(latents, sae.encode(hidden))
    assert latents.shape == (*shape, zoo.WIDTH)
    assert scale is None or scale.shape == (*shape, 1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(("architecture", "rescale"), TYPES)
def test_an_sae_encodes_in_its_own_dtype(architecture, rescale, dtype):
    sae = build(architecture, rescale, dtype=dtype)
    encoder = load_sae(sae).encoder
    hidden = zoo.hidden(2, 5)  # float32, as the model's
    latents, _ = encoder.encode(hidden)
    assert latents.dtype == encoder.dtype == getattr(torch, dtype)
    assert torch.equal(latents, sae.encode(hidden))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_hidden_states_may_have_another_dtype(dtype):
    sae = build("topk", True, normalize_activations="layer_norm")
    hidden = zoo.hidden(2, 5, dtype=dtype)
    latents, _ = load_sae(sae).encoder.encode(hidden)
    assert latents.dtype == torch.float32
    assert torch.equal(latents, sae.encode(hidden))


@pytest.mark.parametrize("normalise", ["constant_norm_rescale", "layer_norm"])
def test_the_scale_has_the_saes_dtype(normalise):
    sae = build("topk", normalize_activations=normalise, dtype="bfloat16")
    _, scale = load_sae(sae).encoder.encode(zoo.hidden(4))
    assert scale is not None
    assert scale.dtype == torch.bfloat16


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_equal_pre_activations_are_chosen_as_saelens_chooses(architecture):
    sae = build(architecture)
    with torch.no_grad():
        sae.W_enc[:, 1::2] = sae.W_enc[:, ::2]
        sae.b_enc[1::2] = sae.b_enc[::2]
        sae.W_enc[:, :30] = 0
        sae.b_enc[:30] = 1.0
    hidden = zoo.hidden(40)
    latents, _ = load_sae(sae).encoder.encode(hidden)
    assert torch.equal(latents, sae.encode(hidden))


@pytest.mark.parametrize(("architecture", "rescale"), TYPES)
def test_gradients_of_hidden_are_saelens_own(architecture, rescale):
    sae = build(architecture, rescale, normalize_activations="layer_norm")
    encoder = load_sae(sae).encoder
    ours, theirs = (zoo.hidden(2, 3).requires_grad_() for _ in range(2))
    encoder.encode(ours)[0].square().sum().backward()
    sae.encode(theirs).square().sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert relative(ours.grad, theirs.grad) < 1e-6
    with torch.no_grad():
        assert torch.equal(encoder.encode(ours)[0], sae.encode(theirs))


@pytest.mark.parametrize(("architecture", "rescale"), TYPES)
def test_one_vector_and_no_vector_encode_too(architecture, rescale):
    encoder = load_sae(build(architecture, rescale)).encoder
    batch = zoo.hidden(2)
    assert encoder.encode(batch[0])[0].shape == (zoo.WIDTH,)
    assert encoder.encode(batch[:0])[0].shape == (0, zoo.WIDTH)
    assert relative(encoder.encode(batch[0])[0], encoder.encode(batch)[0][0]) < 1e-6


def test_a_pursuit_of_one_row_does_not_depend_on_the_others():
    sae = zoo.build("matching_pursuit", max_iterations=None, residual_threshold=2.0)
    with torch.no_grad():
        sae.W_dec /= sae.W_dec.norm(dim=-1, keepdim=True)
    hidden = zoo.hidden(20)
    latents, _ = load_sae(sae).encoder.encode(hidden)
    assert torch.equal(latents, sae.encode(hidden))
    counts = (latents > 0).sum(dim=-1)
    assert counts.min() < counts.max()
    alone = torch.cat([load_sae(sae).encoder.encode(row)[0][None] for row in hidden])
    assert relative(alone, latents) < 1e-6


def test_only_what_encode_needs_is_held():
    held = {
        name: set(load_sae(build(name, rescale)).encoder.tensors) for name, rescale in TYPES[:-2]
    }
    assert held == {
        "standard": {"W_enc", "b_enc", "b_dec"},
        "jumprelu": {"W_enc", "b_enc", "threshold", "b_dec"},
        "gated": {"W_enc", "b_gate", "r_mag", "b_mag", "b_dec"},
        "topk": {"W_enc", "b_enc", "b_dec"},
        "abstopk": {"W_enc", "b_enc", "b_dec"},
        "matching_pursuit": {"dictionary", "b_dec"},  # tied: it is the decoder itself
    }
    rescaled = load_sae(build("topk", True, apply_b_dec_to_input=False)).encoder
    assert set(rescaled.tensors) == {"W_enc", "b_enc", "decoder_norm"}


def test_moving_an_encoder_moves_every_tensor():
    encoder = load_sae(build("topk", True)).encoder
    moved = encoder.to("meta")
    assert moved is encoder
    assert encoder.device.type == "meta"
    assert {tensor.device.type for tensor in encoder.tensors.values()} == {"meta"}
    assert encoder.encode(zoo.hidden(3))[0].shape == (3, zoo.WIDTH)


@pytest.mark.gpu
@pytest.mark.parametrize(("architecture", "rescale"), TYPES)
def test_encode_on_a_gpu_is_saelens_own(architecture, rescale):
    sae = build(architecture, rescale).to("cuda")
    encoder = load_sae(sae).encoder
    latents, _ = encoder.encode(zoo.hidden(3, 11))
    assert latents.device.type == "cuda"
    assert torch.equal(latents, sae.encode(zoo.hidden(3, 11).cuda()))


def test_the_module_is_rebuilt_from_its_source_with_torch_alone():
    source = Path(module.__file__).read_text()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        assert not getattr(node, "decorator_list", None)
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert [name.name for name in node.names] == ["torch"]
        assert not (isinstance(node, ast.Name) and node.id == "super")
    namespace: dict = {"__name__": "elsewhere"}
    exec(compile(tree, "elsewhere", "exec"), namespace)
    here = load_sae(build("jumprelu")).encoder
    there = namespace["Encoder"](here.rule, here.tensors)
    assert type(there) is not Encoder
    hidden = zoo.hidden(4)
    assert torch.equal(there.encode(hidden)[0], here.encode(hidden)[0])
