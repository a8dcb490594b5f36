"""Warnings of macOS that mean nothing.

With Accelerate, Apple's BLAS, NumPy up to 2.3 warns of a division by zero, an overflow and an
invalid value in matrix products of sound numbers, whose results are right (NumPy's issue 28687).
"""

import sys
import warnings

PRODUCTS = "(divide by zero|overflow|invalid value) encountered in matmul"


def ignore_spurious_warnings(modules=r"picogpt\."):
    """On macOS, don't show what NumPy warns of in matrix products of modules with such names.

    What looks for NaN in this package looks at the numbers, never at warnings: none is hidden.
    """
    if sys.platform == "darwin":
        warnings.filterwarnings("ignore", PRODUCTS, RuntimeWarning, modules)
