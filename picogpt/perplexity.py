"""How well a model predicts a text: python -m picogpt.perplexity FILE."""

from pathlib import Path

from picogpt.model import load
from picogpt.tasks.metrics import bits_per_byte, perplexity_of, text_loss
from picogpt.tools.cli import run
from picogpt.tools.errors import DataError
from picogpt.tools.progress import hidden
from picogpt.training.data import read_chunks


def main(
    file: Path,
    *,
    model_size: str | None = None,
    models_dir: str | None = None,
    no_special_tokens: bool = False,
    int8: bool = False,
):
    """Print a model's perplexity per token and bits per byte on a text file.

    Perplexity compares models that share a tokenizer; bits per byte compares any. Windows are as
    long as the model's context and start half a context apart.

    Args:
        file: a text in UTF-8, of any length.
        model_size: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id; without it 124M, or tiny.
        models_dir: where models are kept.
        no_special_tokens: read <|endoftext|> in the file as plain text; without this it is the
            token that ends a text.
        int8: hold the large matrices as whole numbers of one byte.
    """
    from tqdm import tqdm

    if not file.is_file():
        raise DataError(f"{file} is no file: name a text file in UTF-8")
    if next(read_chunks(file, 2**14), "") == "":
        raise DataError(f"{file} is empty: there is nothing to predict")
    model = load(model_size, models_dir, needs_text=True, int8=int8)
    n_bytes = 0  # of the text: a byte-order mark is none of it
    with tqdm(total=file.stat().st_size, unit="B", unit_scale=True, disable=hidden()) as bar:

        def chunks():
            nonlocal n_bytes
            for text in read_chunks(file, 2**14, model.encoder):
                yield text
                size = len(text.encode())
                n_bytes += size
                bar.update(size)

        loss, n_tokens = text_loss(model, chunks(), not no_special_tokens)
    print(f"{file.name} by {model.title}: {n_tokens:,} tokens, {n_bytes:,} bytes")
    print(f"perplexity per token {perplexity_of(loss, n_tokens):.4f}")
    print(f"bits per byte {bits_per_byte(loss, n_bytes):.4f}")


if __name__ == "__main__":
    run(main)
