"""What a task trains of a model whose lower blocks are frozen."""


def trained_part(tree, first_trained_block):
    """The part of a tree of parameters, or of gradients like it, that trains: the same arrays.

    That is everything where first_trained_block is 0. Else the blocks from there on and ln_f train;
    wte, wpe and, where the model has one of its own, lm_head stay as they are.
    """
    part = {"blocks": tree["blocks"][first_trained_block:], "ln_f": tree["ln_f"]}
    if first_trained_block == 0:
        part |= {name: tree[name] for name in ("wte", "wpe", "lm_head") if name in tree}
    return part
