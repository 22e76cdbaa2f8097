"""Products with curvature, against matrices that NumPy builds of complex numbers.

The net is written down once more in NumPy (reference.py), where its weights may be complex: the
Jacobian is the imaginary part of one tiny step along it, and second derivatives are Cauchy's
integral over a circle around the weights. Neither subtracts anything, so both are right to the
last digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from reference import gru_step, lstm_step, rnn_step

import minigrad as mg
from minigrad import nn
from minigrad.compile import scanning

Array = np.ndarray
T, B, I, H, C = 4, 3, 2, 2, 3
LENGTHS = [4, 1, 3]
REAL = np.arange(T)[:, None] < np.array(LENGTHS)


class Net(nn.Module):
    """A recurrent layer, and logits of every step."""

    def __init__(self, rnn: Any, dtype: Any = np.float64):
        self.rnn = rnn
        size = H * rnn.num_directions
        self.out = nn.Linear(size, C, dtype=dtype, generator=np.random.default_rng(2))

    def forward(self, x: Any, lengths: Any = None) -> Any:
        return self.out(self.rnn(x, lengths=lengths)[0])


NETS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "lstm": (nn.LSTM, {}, None),
    "rnn": (nn.RNN, {}, None),
    "gru": (nn.GRU, {}, None),
    "bilstm-padded": (nn.LSTM, {"bidirectional": True}, LENGTHS),
    "rnn-stacked": (nn.RNN, {"num_layers": 2}, LENGTHS),
}


def net(kind: str, dtype: Any = np.float64, **more: Any) -> Net:
    layer, options, _ = NETS[kind]
    generator = np.random.default_rng(1)
    return Net(layer(I, H, dtype=dtype, generator=generator, **options, **more), dtype)


# -- the same in NumPy, on complex weights ---------------------------------------------------------


def step_of(kind: str) -> Callable[..., Any]:
    if kind.startswith("rnn"):
        return rnn_step
    if kind == "gru":
        return lambda w, h, x: gru_step(w, h, x, True, "keep")
    return lstm_step


def weights_at(model: Net, flat: Array) -> dict[str, Array]:
    found, begin = {}, 0
    for name, p in model.named_parameters():
        found[name] = flat[begin : begin + p.size].reshape(p.shape)
        begin += p.size
    return found


def logits(kind: str, model: Net, flat: Array, xs: Array) -> Array:
    """(T, B, C), with the batch as columns on the way."""
    w, real = weights_at(model, flat), REAL if NETS[kind][2] else np.ones((T, B), bool)
    step, layer = step_of(kind), model.rnn
    seen = xs.transpose(0, 2, 1)
    for k in range(layer.num_layers):
        sides = []
        for way in ("", "_reverse")[: layer.num_directions]:
            own = {
                name: w[f"rnn.{name}_l{k}{way}"].reshape(shape)
                for name, shape in (("weight_ih", (-1, seen.shape[1])), ("weight_hh", (-1, H)),
                                    ("bias_ih", (-1, 1)), ("bias_hh", (-1, 1)))
            }  # fmt: skip
            zero = np.zeros((H, B), flat.dtype)
            state = (zero, zero) if kind.startswith("bilstm") or kind == "lstm" else zero
            hs = [zero] * T
            for t in reversed(range(T)) if way else range(T):
                new = step(own, state, seen[t])
                if isinstance(state, tuple):
                    state = tuple(np.where(real[t], a, b) for a, b in zip(new, state))
                else:
                    state = np.where(real[t], new, state)
                hs[t] = state[0] if isinstance(state, tuple) else state
            sides.append(np.where(real[:, None], np.stack(hs), 0))
        seen = np.concatenate(sides, axis=1)
    return seen.transpose(0, 2, 1) @ w["out.weight"].T + w["out.bias"]


def per_sample(z: Array, y: Array, real: Array) -> Array:
    """(B,): -ln p(y), summed over the real steps."""
    picked = np.take_along_axis(z, y[..., None], -1)[..., 0]
    return np.where(real, np.log(np.exp(z).sum(-1)) - picked, 0).sum(0)


def jacobian(f: Callable[[Array], Array], at: Array) -> Array:
    """(values of f, n)."""
    moves = np.eye(at.size) * 1e-30j
    return np.stack([f(at + m).imag.ravel() * 1e30 for m in moves], axis=1)


def second(f: Callable[[Array], Array], at: Array, along: Array) -> float:
    """d2 f(at + s * along)/ds2 at s = 0."""
    around = np.exp(2j * np.pi * np.arange(40) / 40)
    radius = 0.15 / np.abs(along).max()
    values = np.array([f(at + radius * s * along) for s in around])
    return float((values * around**-2).mean().real * 2 / radius**2)


def bilinear(f: Callable[[Array], Array], at: Array, u: Array, v: Array) -> float:
    """u^T H v."""
    return (second(f, at, u + v) - second(f, at, u - v)) / 4


class Case:
    """A net, data for it, and the matrices by NumPy."""

    def __init__(self, kind: str, **more: Any):
        rng = np.random.default_rng(3)
        self.kind, self.model, self.lengths = kind, net(kind, **more), NETS[kind][2]
        self.real = REAL if self.lengths else np.ones((T, B), bool)
        self.x, self.y = rng.normal(size=(T, B, I)), rng.integers(0, C, (T, B))
        self.names = [name for name, _ in self.model.named_parameters()]
        self.at = np.concatenate([p.numpy().ravel() for p in self.model.parameters()])
        self.v = rng.normal(size=self.at.size)

    def outputs(self) -> Any:
        return self.model(self.x, self.lengths)

    def seen(self) -> Any:
        """(N, C): those of the real steps."""
        return self.outputs()[self.real]

    def loss(self) -> Any:
        return nn.cross_entropy(self.seen(), self.y[self.real])

    def losses(self) -> Any:
        each = nn.cross_entropy(self.outputs(), self.y, reduction="none")
        return mg.where(self.real, each, 0.0).sum(axis=0)

    def plain(self, flat: Array) -> Array:
        return logits(self.kind, self.model, flat, self.x)

    def plain_losses(self, flat: Array) -> Array:
        return per_sample(self.plain(flat), self.y, self.real)

    def plain_loss(self, flat: Array) -> Array:
        return self.plain_losses(flat).sum() / self.real.sum()


# Compiled are the RNN and, with --wide, the padded BiLSTM; all of them run without JIT.
WHEN = {"rnn": (), "bilstm-padded": (pytest.mark.wide,)}
CASES = [pytest.param(kind, marks=WHEN.get(kind, (pytest.mark.rare,))) for kind in NETS]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def close(found: Any, expected: Array) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-12)


# -- each product is the matrix times the vector ---------------------------------------------------


@pytest.mark.parametrize("mode", ["fused"])
def test_the_hessian_product_is_that_of_cauchys_integral(case: Case, mode: str) -> None:
    close(case.loss().numpy(), case.plain_loss(case.at))
    found = mg.hvp(case.loss, case.model, case.v).numpy()
    for u in np.random.default_rng(5).normal(size=(5, case.at.size)):
        expected = bilinear(case.plain_loss, case.at, u, case.v)
        assert u @ found == pytest.approx(expected, rel=1e-12, abs=1e-12)
    for _ in range(4):  # from the third or fourth call on, the layer's trace is had again
        again = mg.hvp(case.loss, case.model, case.v)
    close(again, found)


@pytest.mark.parametrize("mode", ["fused"])
def test_the_gauss_newton_product_is_that_of_the_jacobian(case: Case, mode: str) -> None:
    found = mg.ggn(case.seen, lambda z: nn.cross_entropy(z, case.y[case.real]), case.model, case.v)
    whole, p = fisher_of(case)
    close(found, whole @ case.v)
    close(mg.fisher(case.seen, case.model, case.v), whole @ case.v)
    assert np.linalg.eigvalsh(whole)[0] > -1e-15
    assert p.shape == (case.real.sum(), C)


def fisher_of(case: Case) -> tuple[Array, Array]:
    """Sample by sample and class by class: 1/N sum_n sum_y p(y) g g^T, g = d ln p(y)/dw."""
    rows = jacobian(case.plain, case.at).reshape(T, B, C, -1)[case.real]
    p = np.exp(case.plain(case.at)[case.real])
    p /= p.sum(-1, keepdims=True)
    whole = np.zeros((case.at.size, case.at.size))
    for q, J in zip(p, rows, strict=True):
        for y in range(C):
            g = (np.eye(C)[y] - q) @ J
            whole += q[y] * np.outer(g, g) / len(p)
    return whole, p


@pytest.mark.parametrize("mode", ["fused"])
def test_the_empirical_fisher_is_a_loop_over_samples(case: Case, mode: str) -> None:
    gradients = jacobian(case.plain_losses, case.at)  # (B, n)
    expected = sum(np.outer(g, g) for g in gradients) @ case.v / B
    close(mg.empirical_fisher(case.losses, case.model, case.v), expected)
    alone = []
    for b in range(B):
        found = mg.grad(case.losses()[b], list(case.model.parameters()))
        alone.append(np.concatenate([g.numpy().ravel() for g in found]))
    close(sum(g * (g @ case.v) for g in alone) / B, expected)


@pytest.mark.parametrize("mode", ["fused"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_other_likelihoods_weigh_the_jacobian(case: Case, likelihood: str, mode: str) -> None:
    J, z = jacobian(case.plain, case.at), case.plain(case.at).ravel()
    p = 1 / (1 + np.exp(-z))
    inner = np.ones(z.size) if likelihood == "gaussian" else p * (1 - p)
    found = mg.fisher(case.outputs, case.model, case.v, likelihood, reduction="sum")
    close(found, J.T @ (inner * (J @ case.v)))
    target = np.round(p).reshape(T, B, C)
    loss = nn.mse_loss if likelihood == "gaussian" else nn.bce_with_logits
    half = 0.5 if likelihood == "gaussian" else 1.0
    newton = mg.ggn(case.outputs, lambda z: loss(z, target), case.model, case.v)
    close(newton.numpy() * half, J.T @ (inner * (J @ case.v)) / z.size)


def test_the_matrix_of_products_is_that_of_differences_of_gradients() -> None:
    """An RNN of a few weights, its whole Hessian, by columns."""
    case = Case("rnn", mode="tape")
    times = mg.hvp(case.loss, case.model)
    whole = np.stack([times(e).numpy() for e in np.eye(case.at.size)])
    close(whole, whole.T)
    parameters = list(case.model.parameters())

    def slope(flat: Array) -> Array:
        for p, w in zip(parameters, weights_at(case.model, flat).values(), strict=True):
            p.data = w
        return np.concatenate([g.numpy().ravel() for g in mg.grad(case.loss(), parameters)])

    moves = 1e-5 * np.eye(case.at.size)
    columns = [(slope(case.at + m) - slope(case.at - m)) / 2e-5 for m in moves]
    np.testing.assert_allclose(whole, columns, rtol=1e-6, atol=1e-9)


# -- it stays in the compiled loops ----------------------------------------------------------------


def nodes(products: Callable[[Any], Any], model: Net, steps: int) -> int:
    x = np.random.default_rng(0).normal(size=(steps, B, I))
    with mg.Tape() as tape:
        products(lambda: model(x))
    return len(tape.nodes)


PRODUCTS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "hvp": lambda f, m, v: mg.hvp(lambda: (f() ** 2).sum(), m, v),
    "ggn": lambda f, m, v: mg.ggn(f, lambda z: (z**2).sum(), m, v),
    "fisher": lambda f, m, v: mg.fisher(f, m, v),
    "empirical": lambda f, m, v: mg.empirical_fisher(lambda: (f() ** 2).sum(axis=(0, 2)), m, v),
}


@pytest.mark.parametrize("mode", ["fused"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_fused_layers_stay_in_the_compiled_loops(
    case: Case, product: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many nodes for 9 steps as for 4; of a loop on the tape there are more."""

    def refused(*args: Any) -> Any:
        raise AssertionError("a scan ran on the tape")

    def run(f: Any) -> Any:
        return PRODUCTS[product](f, case.model, case.v)

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "on_tape", refused)
        assert nodes(run, case.model, 4) == nodes(run, case.model, 9) < 400
        if case.kind == "rnn":
            slow = net("rnn", mode="tape")
            with pytest.raises(AssertionError, match="on the tape"):
                nodes(lambda f: PRODUCTS[product](f, slow, case.v), slow, 4)
    if case.kind == "rnn":
        few, many = (nodes(lambda f: PRODUCTS[product](f, slow, case.v), slow, n) for n in (4, 9))
        assert many > few + 20


# -- forms, types and second calls -----------------------------------------------------------------


def test_products_come_in_the_form_of_the_vectors() -> None:
    case = Case("rnn", mode="tape")
    parameters = list(case.model.parameters())
    flat = mg.hvp(case.loss, case.model, case.v).numpy()
    apart = [w.copy() for w in weights_at(case.model, case.v).values()]
    named = dict(zip(case.names, apart, strict=True))
    by_name = mg.hvp(case.loss, case.model, dict(reversed(named.items())))
    assert list(by_name) == case.names
    listed = mg.hvp(case.loss, parameters, apart)
    assert isinstance(listed, list)
    several = mg.hvp(case.loss, tuple(parameters), tuple(map(mg.tensor, apart)))
    assert isinstance(several, tuple)
    lazily = mg.hvp(case.loss, case.model.parameters(), iter(apart))
    for found in (by_name.values(), listed, several, lazily):
        assert [g.shape for g in found] == [p.shape for p in parameters]
        close(np.concatenate([g.numpy().ravel() for g in found]), flat)
    one = mg.hvp(case.loss, parameters[1], apart[1])
    assert one.shape == parameters[1].shape
    close(mg.hvp(case.loss, parameters[1], apart[1].ravel()), one.numpy().ravel())
    assert all(p.grad is None and p.requires_grad for p in parameters)


def test_functions_of_arrays_are_called_with_what_is_differentiated() -> None:
    a, b = np.array([1.0, 2.0]), np.array([3.0])
    expected = [2 * b * np.ones(2), 2 * (a * 1.0).sum(keepdims=True)]
    ones = [np.ones(2), np.zeros(1)]

    def f(a: Any, b: Any) -> Any:
        return (a * a).sum() * b.sum()

    for found in (mg.hvp(f, (a, b), ones), mg.hvp(f, [a, mg.tensor(b)], ones)):
        close(found[0], expected[0])
        close(found[1], expected[1])
    named = mg.hvp(lambda w: f(w["a"], w["b"]), {"b": b, "a": a}, {"a": ones[0], "b": ones[1]})
    assert list(named) == ["b", "a"]
    close(named["b"], expected[1])
    model = nn.Linear(2, 1, dtype=np.float64)
    found = mg.hvp(lambda m: (m(a) ** 2).sum() / 2, model, {"weight": [[1.0, 0.0]], "bias": [0.0]})
    close(found["weight"], [[1.0, 2.0]])
    close(found["bias"], [1.0])


def test_a_product_that_is_called_again_is_of_the_loss_as_it_was() -> None:
    case = Case("lstm", mode="tape")
    calls = []

    def loss() -> Any:
        calls.append(0)
        return case.loss()

    times = mg.hvp(loss, case.model)
    first, other = times(case.v).numpy(), times(2 * case.v[::-1]).numpy()
    for p in case.model.parameters():
        p.data = p.numpy() * 0.5
    close(times(case.v), first)
    close(times(2 * case.v[::-1]), other)
    assert len(calls) == 1
    assert np.abs(mg.hvp(loss, case.model, case.v).numpy() - first).max() > 1e-3


@pytest.mark.rare
@pytest.mark.parametrize("mode", ["fused"])
def test_float32_and_one_step_and_one_row(mode: str) -> None:
    single, double = net("lstm", np.float32, mode=mode), net("lstm", mode=mode)
    single.load_state_dict({n: w.astype(np.float32) for n, w in double.state_dict().items()})
    x, y = np.ones((1, 1, I)), np.array([[2]])
    v = np.random.default_rng(0).normal(size=sum(p.size for p in double.parameters()))
    for make in (
        lambda m, x: mg.hvp(lambda: nn.cross_entropy(m(x), y), m, v),
        lambda m, x: mg.fisher(lambda: m(x), m, v),
        lambda m, x: mg.empirical_fisher(lambda: nn.cross_entropy(m(x), y, reduction="none"), m, v),
    ):
        found = make(single, x.astype(np.float32))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.numpy(), make(double, x).numpy(), rtol=2e-4, atol=1e-5)


def test_what_the_loss_does_not_read_and_what_is_linear_are_zeros() -> None:
    a, b = (mg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    first, second = mg.hvp(lambda: (a * a).sum(), [a, b], [np.ones(2), np.ones(2)])
    close(first, 2 * np.ones(2))
    close(second, np.zeros(2))
    close(mg.hvp(lambda: (a * 3.0).sum(), a, np.ones(2)), np.zeros(2))
    (left, right) = mg.ggn(lambda: (a * 2, mg.tensor([5.0])), lambda z: (z[0] ** 2).sum() / 2,
                           [a, b], [np.ones(2), np.ones(2)])  # fmt: skip
    close(left, 4 * np.ones(2))
    close(right, np.zeros(2))


def test_outputs_may_be_a_tree_of_which_the_loss_reads_a_part() -> None:
    case = Case("lstm", mode="tape")
    weights = np.random.default_rng(4).normal(size=(1, B, H))

    def outputs() -> Any:
        ys, (h, c) = case.model.rnn(case.x)
        return {"ys": ys, "final": (h, c)}

    def loss(z: Any) -> Any:
        return (z["ys"] ** 2).sum() + (z["final"][1] ** 3 * weights).sum()

    parameters = list(case.model.rnn.parameters())
    v = [np.ones(p.shape) for p in parameters]
    found = mg.ggn(outputs, loss, parameters, v)

    def joined() -> Any:
        made = outputs()
        return mg.concatenate([made["ys"].reshape(-1), made["final"][1].reshape(-1)])

    made = joined()
    z, rows = made.numpy(), []
    for k in range(made.size):
        gradients = mg.grad(made[k], parameters, retain_graph=True)
        rows.append(np.concatenate([g.numpy().ravel() for g in gradients]))
    J = np.stack(rows)
    n = T * B * H
    inner = np.concatenate([np.full(n, 2.0), 6 * z[n:] * weights.ravel()])
    expected = J.T @ (inner * (J @ np.ones(J.shape[1])))
    close(np.concatenate([g.numpy().ravel() for g in found]), expected)


def test_what_does_not_fit_is_refused_by_name() -> None:
    w = mg.tensor([1.0, 2.0], requires_grad=True)
    model = nn.Linear(2, 1)
    loss: Any = lambda: (w * w).sum()  # noqa: E731
    for made, error, told in (
        (lambda: mg.hvp(lambda: w * w, w, w.numpy()), mg.GradientError, r"returned float64\[2\]"),
        (lambda: mg.hvp(lambda: 3.0, w, w.numpy()), mg.GradientError, "expected one number"),
        (lambda: mg.hvp(loss, model, np.ones(3)), mg.GradientError, "depend on any of the par"),
        (lambda: mg.hvp(loss, np.ones(2), np.ones(2)), mg.GradientError, "takes no arguments"),
        (lambda: mg.hvp(loss(), w, w.numpy()), TypeError, r"got float64\[\]; write one that"),
        (lambda: mg.ggn(lambda: (w, 1.0), loss, w, w.numpy()), mg.GradientError, "returned tuple"),
        (lambda: mg.hvp(loss, [], []), mg.GradientError, "without any"),
        (lambda: mg.hvp(loss, w, np.ones(3)), mg.ShapeError, r"expected all 2 elements"),
        (lambda: mg.hvp(loss, [w], [np.ones(3)]), mg.ShapeError, r"vector 0 is float64\[3\]"),
        (lambda: mg.hvp(loss, [w], [np.ones(2)] * 2), mg.ShapeError, "2 vectors for 1 parameters"),
        (lambda: mg.hvp(loss, w, np.ones(2, int)), mg.DTypeError, "int64.*expected floats"),
        (lambda: mg.hvp(lambda x: x.sum(), [1, 2], [1.0, 1.0]), mg.DTypeError, "expected floats"),
        (lambda: mg.hvp(loss, {"w": w}, {"v": w.numpy()}), mg.ShapeError, r"named \['v'\]"),
        (lambda: mg.ggn(lambda: w, lambda z: (w * w).sum(), w, w.numpy()), mg.GradientError,
         "called as loss"),
        (lambda: mg.fisher(lambda: w, w, w.numpy(), "poisson"), ValueError, "likelihood must be"),
        (lambda: mg.fisher(lambda: w, w, w.numpy(), reduction="none"), ValueError, "reduction"),
        (lambda: mg.fisher(lambda: w.sum(), w, w.numpy()), mg.ShapeError, r"logits \(\.\.\., C\)"),
        (lambda: mg.fisher(lambda: (w, w), w, w.numpy()), mg.GradientError, "returned tuple"),
        (lambda: mg.empirical_fisher(loss, w, w.numpy()), mg.ShapeError, "loss of every sample"),
    ):  # fmt: skip
        with pytest.raises(error, match=told):
            made()
    with mg.no_grad(), pytest.raises(mg.GradientError, match=r"outside of mg\.no_grad"):
        mg.hvp(loss, w, w.numpy())
    asked = mg.tensor(np.ones(2), requires_grad=True)
    with pytest.raises(mg.GradientError, match="vector 0 requires a gradient, and"):
        mg.hvp(loss, w, asked)


def test_nan_in_is_nan_out() -> None:
    case = Case("rnn", mode="tape")
    case.x[1, 0, 0] = np.nan
    assert np.isnan(mg.hvp(case.loss, case.model, case.v).numpy()).any()
    assert np.isnan(mg.fisher(case.seen, case.model, case.v).numpy()).any()
