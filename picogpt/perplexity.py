"""How well a model predicts a text: python -m picogpt.perplexity FILE."""

from pathlib import Path

from picogpt.model import load
from picogpt.tasks.metrics import bits_per_byte, perplexity_of, text_loss
from picogpt.tools.cli import run
from picogpt.tools.errors import DataError
from picogpt.training.data import read_chunks


def main(file: Path, *, model_size: str | None = None, models_dir: str | None = None):
    """Print a model's perplexity per token and bits per byte on a text file.

    Perplexity compares models that share a tokenizer; bits per byte compares any. Windows are as
    long as the model's context and start half a context apart.

    Args:
        file: a text in UTF-8, of any length.
        model_size: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id; without it 124M, or tiny.
        models_dir: where models are kept.
    """
    from tqdm import tqdm

    if not file.is_file():
        raise DataError(f"{file} is no file: name a text file in UTF-8")
    n_bytes = file.stat().st_size
    if not n_bytes:
        raise DataError(f"{file} is empty: there is nothing to predict")
    model = load(model_size, models_dir)
    with tqdm(total=n_bytes, unit="B", unit_scale=True, disable=None) as bar:

        def chunks():
            for text in read_chunks(file, 2**14):
                yield text
                bar.update(len(text.encode()))

        loss, n_tokens = text_loss(model, chunks())
    print(f"{file.name} by {model.name}: {n_tokens:,} tokens, {n_bytes:,} bytes")
    print(f"perplexity per token {perplexity_of(loss, n_tokens):.4f}")
    print(f"bits per byte {bits_per_byte(loss, n_bytes):.4f}")


if __name__ == "__main__":
    run(main)
