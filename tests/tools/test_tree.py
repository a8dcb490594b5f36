"""Walking a parameter tree."""

import pytest

from picogpt.tools.tree import tree_leaves, tree_map, tree_paths

TREE = {"a": 1, "b": [{"c": 2}, {"c": 3}, {}], "d": {"e": []}}


def test_tree_map_keeps_the_shape_and_walks_several_trees_at_once():
    negative = {"a": -1, "b": [{"c": -2}, {"c": -3}, {}], "d": {"e": []}}
    assert tree_map(lambda x: -x, TREE) == negative
    other = {"b": [{"c": 20}, {"c": 30, "more": 0}, {}], "a": 10, "d": {"e": []}}
    assert tree_leaves(tree_map(lambda x, y: (x, y), TREE, other)) == [(1, 10), (2, 20), (3, 30)]


def test_trees_of_other_shapes_are_refused():
    with pytest.raises(KeyError):
        tree_map(max, {"a": 1}, {"b": 1})
    with pytest.raises(ValueError):
        tree_map(max, [1, 2], [1])


def test_tree_paths():
    assert tree_leaves(tree_paths(TREE)) == ["a", "b.0.c", "b.1.c"]
