"""Compilation of inner loops that works where nothing can be written."""

import numba


def compiled(**options):
    """Decorate a function as ``numba.njit(**options)``; divided by zero it goes on, as NumPy does.

    Where neither the package's folder nor the home folder can be written, numba refuses to cache;
    the function is then compiled anew in every process.
    """
    def decorate(function):
        try:
            return numba.njit(cache=True, error_model="numpy", **options)(function)
        except RuntimeError:  # numba's "no locator available": nowhere to keep it
            return numba.njit(error_model="numpy", **options)(function)

    return decorate
