"""Compiled linear algebra of `bend`: small symmetric positive definite systems by Cholesky.

A BLAS would do, but what it gives depends on how many threads it has; these loops give the same
always. Inner loops run along rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refdepth.compiled import kernel

Array = NDArray[np.float64]


@kernel
def factorise(A: Array) -> None:
    """Overwrites the upper triangle of A (N, N) by U with A = U^T U. Reads that triangle alone."""
    n = len(A)
    for k in range(n):
        pivot = np.sqrt(A[k, k])
        for j in range(k, n):
            A[k, j] /= pivot
        for i in range(k + 1, n):
            share = A[k, i]
            for j in range(i, n):
                A[i, j] -= share * A[k, j]


@kernel
def solve(U: Array, x: Array) -> None:
    """Overwrites x (N,) by the solution of U^T U solution = x."""
    n = len(U)
    for k in range(n):
        x[k] /= U[k, k]
        for j in range(k + 1, n):
            x[j] -= x[k] * U[k, j]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            x[k] -= U[k, j] * x[j]
        x[k] /= U[k, k]


@kernel
def solve_blocks(U: Array, x: Array, ends: NDArray[np.int64]) -> None:
    """Overwrites x (N,) block by block by the solution of B solution = x, where B is the block on
    the diagonal of the inverse of U^T U. Blocks end before `ends`, in rising order."""
    n = len(U)
    lower = np.zeros((n, n))  # of U^T, inverse
    for k in range(n):
        lower[k, k] = 1.0
    for k in range(n):
        for j in range(k + 1):
            lower[k, j] /= U[k, k]
        for i in range(k + 1, n):
            share = U[k, i]
            for j in range(k + 1):
                lower[i, j] -= share * lower[k, j]
    first = 0
    for end in ends:
        block = np.zeros((end - first, end - first))
        for k in range(first, n):
            for i in range(first, min(k + 1, end)):
                share = lower[k, i]
                for j in range(i, min(k + 1, end)):
                    block[i - first, j - first] += share * lower[k, j]
        factorise(block)
        solve(block, x[first:end])
        first = end
