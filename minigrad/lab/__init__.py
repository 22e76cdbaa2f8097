"""The laboratory: known tasks, one trained network, sweeps of many, claims, and exercises."""
