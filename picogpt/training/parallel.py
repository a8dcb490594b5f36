"""Several cores for one batch: each thread takes some sequences, and the gradients are added.

BLAS spreads a single product over the cores, but gelu, softmax and layer norm run on one. With a
part of the batch for every thread, and BLAS kept to one core each, all of a small model's step runs
on all cores. NumPy lets go of Python's lock while it computes, so threads are enough.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from picogpt.optim import accumulate
from picogpt.tools.cores import blas_threads, keep_freed_memory


@contextmanager
def summed_over_threads(n_threads):
    """Yield `summed(f, parts)`: the sum of all f(part) = (loss, gradient tree), over n_threads.

    The parts are dealt out and added in a fixed order: the same parts and threads give the same
    sum, bit for bit, where the BLAS can be kept to one thread. Where it can't (cores.py says which
    can), all parts run on one of our threads, and the sum's last bits depend on how many threads
    the BLAS itself uses. The arrays of one part's gradients become the sum. `summed.deal` is map
    over the same threads, for other work.
    """
    keep_freed_memory()
    with blas_threads(1) as alone, ThreadPoolExecutor(n_threads if alone else 1) as pool:

        def sum_in_turn(f, parts):
            total_loss, total = 0.0, None
            for part in parts:
                with np.errstate(all="ignore"):  # the loop tells what is not finite, in a sentence
                    loss, grads = f(part)
                total_loss, total = total_loss + loss, accumulate(total, grads)
            return total_loss, total

        def summed(f, parts):
            shares = [parts[i::n_threads] for i in range(min(n_threads, len(parts)))]
            sums = [pool.submit(sum_in_turn, f, share) for share in shares]  # one for each thread
            return sum_in_turn(lambda future: future.result(), sums)

        summed.deal = pool.map
        yield summed
