"""What trains of a model whose lower layers are frozen."""


def trained_part(tree, first_trained_block):
    """The part of a tree of parameters, or of gradients like it, that trains, in the same arrays.

    With blocks below `first_trained_block` frozen, the embeddings and a head are frozen, too.
    """
    part = {"blocks": tree["blocks"][first_trained_block:], "ln_f": tree["ln_f"]}
    if first_trained_block == 0:
        part |= {name: tree[name] for name in ("wte", "wpe", "lm_head") if name in tree}
    return part
