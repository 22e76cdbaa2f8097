"""Numba side: short vectors."""
