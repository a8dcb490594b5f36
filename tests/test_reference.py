"""The page that everyone starts from: it needs NumPy alone, and its command writes on greedily."""

import ast
import inspect

import numpy as np
import pytest
from models import small_folder, small_model

from picogpt import generate, reference
from picogpt.tools.cli import call


def test_the_page_imports_numpy_and_nothing_else():
    tree = ast.parse(inspect.getsource(reference))
    above = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in above] == ["import numpy as np"]
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    own = {node.name for node in functions} - {"main"}
    used = {node.id for f in functions if f.name in own for node in ast.walk(f)
            if isinstance(node, ast.Name)}  # fmt: skip
    assert "gpt2" in used and "load" not in used and "kernels" not in used


def test_it_keeps_single_precision():
    model = small_model()
    assert reference.gpt2([1, 2, 3], **model.params, n_head=3).dtype == np.float32


def test_generate_gives_as_many_ids_as_asked():
    model = small_model()
    assert [len(reference.generate([5, 6], model.params, 3, n)) for n in (0, 1, 4)] == [0, 1, 4]


def test_its_command_writes_what_the_fast_one_writes(tmp_path, capsys):
    folder = str(small_folder(tmp_path / "m"))
    words = ["the other", "--n_tokens_to_generate", "9", "--model_size", folder]
    assert call(reference.main, words) == 0
    out, err = capsys.readouterr()
    model = small_model()
    assert out == "".join(generate(model, "the other", 9, temperature=0)) + "\n"
    assert "tokens a second" in err and "gpt2.py" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"activation_function": "relu"},
        {"layer_norm_epsilon": 1e-6},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"tie_word_embeddings": False},
    ],
)
def test_a_model_that_differs_from_gpt2_is_refused(tmp_path, capsys, changes):
    folder = str(small_folder(tmp_path / "m", **changes))
    assert call(reference.main, ["the", "--model_size", folder]) == 1
    assert "gpt2.py can run it" in capsys.readouterr().err


def test_a_text_longer_than_the_model_is_refused(tmp_path, capsys):
    folder = str(small_folder(tmp_path / "m"))
    assert call(reference.main, ["the", "--model_size", folder]) == 1
    assert "more than the model's 32 tokens" in capsys.readouterr().err
