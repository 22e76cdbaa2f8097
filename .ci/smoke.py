"""What someone who has just installed the wheel would try first; run outside the checkout."""

import math
import sys
from importlib import resources
from pathlib import Path

import minigrad as mg

package = Path(mg.__file__).parent
assert Path(sys.prefix) in package.parents, f"this is not the installed package: {package}"

w = mg.tensor([[0.5, -1.0], [2.0, 0.25]], requires_grad=True)
x = mg.tensor([1.0, -3.0])
mg.tanh(x @ w).sum().backward()
slopes = [1 / math.cosh(z) ** 2 for z in (0.5 - 6.0, -1.0 - 0.75)]
for row, x_i in zip(w.grad.numpy(), (1.0, -3.0), strict=True):
    for got, slope in zip(row, slopes, strict=True):
        assert math.isclose(got, x_i * slope, rel_tol=1e-12), (got, x_i * slope)

# A layer, compiled and on the tape: the same loss and the same gradients.
lstm = mg.nn.LSTM(3, 4, dtype="float64")
xs = mg.tensor([[[0.5, -1.0, 2.0]], [[1.0, 0.0, -0.5]]], dtype="float64", requires_grad=True)
found = {}
for mode in ("fused", "tape"):
    lstm.mode = mode
    loss = (lstm(xs)[0] ** 2.0).sum()
    found[mode] = [loss, *mg.grad(loss, [xs, *lstm.parameters()])]
    print(str(lstm.explain()).splitlines()[0])
for fused, tape in zip(found["fused"], found["tape"], strict=True):
    assert mg.abs(fused - tape).max().item() < 1e-12, (fused, tape)
    assert mg.abs(fused).max().item() > 0

files = resources.files("minigrad")
data = ("data/shakespeare/hamlet.txt", "data/shakespeare/README.md")
pages = [f"flow/{name}" for name in ("explorer/page.html", "explorer/app.js")]
pages += [f"flow/interactive/{name}" for name in ("page.html", "sliders.js")]
for name in ("py.typed", *data, *pages):
    assert files.joinpath(name).read_bytes() or name == "py.typed", f"{name} is empty"
for name in mg.data.SOURCES:
    mg.data.sources.read(name)  # which checks its SHA-256
print(f"minigrad {mg.__version__} from the wheel: gradients right, data files there")
