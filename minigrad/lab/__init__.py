"""The laboratory: tasks with known baselines, one trained network, sweeps of many, and claims."""
