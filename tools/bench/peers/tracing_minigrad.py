"""How long it takes to trace the step of an LSTM cell, in seconds: the median of many."""

import json
import statistics
import time

import numpy as np

import minigrad as mg
from minigrad.compile.traced import Traced

cell = mg.nn.LSTMCell(32, 64)
init, xs = cell.init_state(16), mg.tensor(np.zeros((10, 16, 32), np.float32))
times = []
for _ in range(300):
    began = time.perf_counter()
    Traced(cell, init, xs, 16)
    times.append(time.perf_counter() - began)
print(json.dumps({"seconds": statistics.median(times)}))
