"""Walking a parameter tree: nested dicts and lists with an array at every leaf.

Parameters, their gradients and AdamW's moments have the same shape; these three functions are all
the framework there is. JAX calls the first one tree_map as well.
"""


def tree_map(f, tree, *others):
    """Apply f to every leaf (and to those at the same place in the others); the same tree back."""
    if isinstance(tree, dict):
        return {key: tree_map(f, tree[key], *(other[key] for other in others)) for key in tree}
    if isinstance(tree, list):
        return [tree_map(f, *leaves) for leaves in zip(tree, *others, strict=True)]
    return f(tree, *others)


def tree_leaves(tree):
    """Every leaf, in the tree's order, as a list."""
    leaves = []
    tree_map(leaves.append, tree)
    return leaves


def tree_paths(tree, prefix=""):
    """The same tree with, at every leaf, its path: "blocks.0.attn.c_attn.w"."""
    if isinstance(tree, dict):
        return {key: tree_paths(tree[key], f"{prefix}{key}.") for key in tree}
    if isinstance(tree, list):
        return [tree_paths(branch, f"{prefix}{i}.") for i, branch in enumerate(tree)]
    return prefix[:-1]
