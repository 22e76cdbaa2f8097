"""Numba side: vector maths."""
