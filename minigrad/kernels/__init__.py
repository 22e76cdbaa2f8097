"""Compiled NumPy loops: vector maths, elementwise, matmul, reductions. Knows no Tensor."""
