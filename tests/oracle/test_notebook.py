"""A notebook, run by nbclient as Jupyter runs it: what each cell shows."""

import html
import os
import sys
from pathlib import Path

import pytest
from oracles import oracle
from systems import PYTHON_PATH

nbformat, nbclient = oracle("nbformat"), oracle("nbclient")
oracle("ipykernel")

CELLS = {
    "load": "import picogpt\nmodel = picogpt.load('tiny')\nmodel",
    "generate": "for text in picogpt.generate(model, 'Once upon a time', 8, seed=1):\n"
    "    print(text, end='', flush=True)",
    "learn": "from picogpt import optim\n"
    "ids, state = model.encoder.encode('The cat sat on the mat.'), optim.new_state(model.params)\n"
    "for step in range(3):\n"
    "    loss, gradients = picogpt.loss_and_gradients(model, ids[:-1], ids[1:])\n"
    "    optim.adamw(model.params, gradients, state, 1e-3)\n"
    "    print(loss)",
    "train": "from pathlib import Path\nfrom picogpt.train import main as train\n"
    "Path('sums.txt').write_text('1+1=2, 1+2=3, 2+2=4\\n' * 200)\n"
    "train(data='sums.txt', out=Path('sums'), n_steps=20, vocab_size=257, n_layer=1, n_embd=16,\n"
    "      n_head=2, n_ctx=16)",
    "command": "!python -m picogpt.perplexity sums.txt --model_size sums",
    "explain": "picogpt.explain('The cat sat on the', model=model)",
    "no model": "picogpt.load('no/such model')",
    "long": "picogpt.explain('a ' * 400, model=model)",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the cells show: {name: outputs}."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    place = {"metadata": {"path": tmp_path_factory.mktemp("notebook")}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHON_PATH)
        folder_of_python = str(Path(sys.executable).parent)
        patch.setenv("PATH", folder_of_python, prepend=os.pathsep)
        client = nbclient.NotebookClient(notebook, allow_errors=True, resources=place)
        client.execute(env=dict(os.environ))
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells)}


def text(outputs, stream="stdout"):
    return "".join(part.text for part in outputs if part.get("name") == stream)


def test_a_model_is_a_line(shown):
    (result,) = shown["load"]
    assert result.data["text/plain"].startswith("<picogpt.Model tiny: ")
    assert len(result.data["text/plain"]) < 100


def test_a_text_comes_piece_by_piece(shown):
    assert len(shown["generate"]) == 8
    assert len(text(shown["generate"])) > 20


def test_steps_of_training_lower_the_loss(shown):
    first, second, third = map(float, text(shown["learn"]).split())
    assert first > second > third


def test_training_shows_how_far_it_is_and_what_comes_of_it(shown):
    assert "/20 [" in text(shown["train"], "stderr")  # the bar
    assert text(shown["train"]).startswith("sums holds the model")
    assert "bits per byte" in text(shown["command"])


def test_explain_shows_the_page_in_a_frame(shown):
    (result,) = shown["explain"]
    frame = result.data["text/html"]
    assert frame.startswith('<iframe srcdoc="')
    page = html.unescape(frame.split('"')[1])
    assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>")
    assert len(result.data["text/plain"]) < 100  # what a terminal shows in its place


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("no model", "CheckpointError: 'no/such model' is no folder, no size"),
        ("long", "Refused: This is 401 tokens, and a page holds 200: give a shorter text"),
    ],
)
def test_an_error_is_a_sentence(shown, cell, said):
    (result,) = shown[cell]
    (line,) = result.traceback
    assert line.startswith(said) and "\n" not in line
