"""The parts of a model that decide what its first decoder blocks return."""

import re
from collections.abc import Iterator
from typing import Any

# What adapters, a compiled module and a module that stands alone in an nn.Sequential put into the
# names of a model's own tensors.
_ADDED = ("base_layer", "original_module", "modules_to_save", "_orig_mod", "0")
_LAST_NORM = re.compile(r"^(norm|ln_f|norm_f|final_\w*norm|ln_out)$")


def parts_of(module: Any, blocks: str, last: int) -> Iterator[tuple[int, str, Any]]:
    """(group, name, module) of all that a run up to block `last` reads: group 0, then the blocks.

    >>> [(group, name) for group, name, _ in parts_of(hf_model, "model.layers", 1)]
    [(0, 'embed_tokens'), (0, 'rotary_emb'), (1, 'block'), (2, 'block')]

    Group 0 is the embeddings and what else stands beside the blocks, such as learned positions, but
    for the norm after them and the head.
    """
    parent = module.get_submodule(blocks.rpartition(".")[0])
    listed = module.get_submodule(blocks)
    embeddings, head = module.get_input_embeddings(), module.get_output_embeddings()
    beside = [
        (name, child)
        for name, child in parent.named_children()
        if child is not listed and not _LAST_NORM.match(name)
    ]
    if all(embeddings is not inner for _, child in beside for inner in child.modules()):
        yield 0, "embed_tokens", embeddings
    for name, child in beside:
        if child is not head or head is embeddings:
            yield 0, name, child
    for number in range(last + 1):
        yield number + 1, "block", listed[number]


def plain_name(name: str, active: set[str]) -> str:
    """A name without what adapters and wrappers add to it; active: the names that adapters have.

    >>> plain_name("block.mlp.up_proj.base_layer.weight", {"formal"})
    'block.mlp.up_proj.weight'
    """
    added = {"", *_ADDED, *active}
    return ".".join(part for part in name.split(".") if part not in added)


def saved_buffers(part: Any) -> Iterator[Any]:
    """Buffers that are saved with the weights, which masks and tables made on loading are not.

    >>> list(saved_buffers(hf_model.model.rotary_emb))
    []
    """
    for module in part.modules():
        for name, buffer in module._buffers.items():
            if buffer is None or name in module._non_persistent_buffers_set:
                continue
            if buffer.numel():
                yield buffer
