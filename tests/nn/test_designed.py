"""Cells designed for gradient flow keep the bounds for which they were designed.

What a paper proves is tested as it stands there, and what follows from the equations alone too.
Norms of matrices are the largest sum of a row. Bounds break where their conditions do.
"""

from __future__ import annotations

import math
from typing import Any

import modes
import numpy as np
import pytest
from cells import scrambled

import minigrad as mg
from minigrad import nn

Array = np.ndarray
F64: dict[str, Any] = {"dtype": np.float64}


def norm(matrices: Array) -> Any:
    """The largest sum of a row, over all matrices (..., n, n)."""
    return np.abs(matrices).sum(axis=-1).max()


def products(steps: Array) -> list[Array]:
    """dS_T/dS_k of every row for k = T - 1 ... 0, of Jacobians (T, B, n, n)."""
    found = [steps[-1]]
    for step in steps[-2::-1]:
        found.append(found[-1] @ step)
    return found


def states(cell: Any, xs: Array) -> tuple[Array, Array]:
    """y and z after each step, (T, B, H)."""
    (y, z), found = cell.init_state(xs.shape[1]), []
    with mg.no_grad():
        for x in xs:
            (y, z), _ = cell((y, z), x)
            found.append((y.numpy(), z.numpy()))
    ys, zs = zip(*found, strict=True)
    return np.stack(ys), np.stack(zs)


# ------------------------------------------------------------------------------------------ IndRNN


def test_an_indrnn_of_open_units_takes_its_gradient_back_with_powers_of_u() -> None:
    cell = nn.IndRNNCell(1, 3, steps=20, **F64)
    nn.init.constant_(cell.weight_ih, 0.0)
    h = mg.tensor(np.ones((1, 3)), requires_grad=True)
    final, _ = modes.run(cell, h, mg.tensor(np.zeros((20, 1, 1))))
    final.sum().backward()
    np.testing.assert_allclose(h.grad.numpy()[0], cell.u.numpy() ** 20, rtol=1e-12)


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_a_gradient_through_a_constrained_indrnn_grows_to_gamma_at_most(
    nonlinearity: str, steps: int, rng: np.random.Generator
) -> None:
    cell = nn.IndRNNCell(
        2, 5, nonlinearity=nonlinearity, steps=steps, gamma=3.0, generator=rng, **F64
    )
    assert (cell.u.numpy() >= 0).all()
    assert (cell.u.numpy() <= 3 ** (1 / steps)).all()
    cell.u.data, cell.weight_ih.data = np.linspace(3.1, 5, 5), np.ones((5, 2))
    xs = rng.uniform(0.1, 1, (steps, 3, 2))  # so that every relu is open
    unbound = np.abs(products(mg.flow.jacobians(cell, xs=xs).steps)[-1]).max()
    cell.constrain()
    J = products(mg.flow.jacobians(cell, xs=xs).steps)[-1]
    assert np.abs(J).max() <= 3 * (1 + 1e-12)
    assert (J * np.eye(5) == J).all()  # no unit sees another
    assert nonlinearity == "tanh" or unbound > 3


# ------------------------------------------------------------------------------------------- coRNN


@pytest.mark.parametrize("dt", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_energy_of_a_cornn_grows_with_time_at_most(
    dt: float, scale: float, rng: np.random.Generator
) -> None:
    """|y_n|^2 + |z_n|^2 <= H n dt for gamma = epsilon = 1."""
    H = 5
    cell = nn.CoRNNCell(3, H, dt=dt, generator=rng, **F64)
    for p in cell.parameters():
        p.data = scale * rng.normal(size=p.shape)
    ys, zs = states(cell, 10 * rng.normal(size=(60, 7, 3)))
    energy = (ys**2 + zs**2).sum(axis=-1)
    assert (energy <= H * dt * np.arange(1, 61)[:, None]).all()


def test_the_energy_of_a_cornn_is_not_bounded_so_without_damping() -> None:
    cell = nn.CoRNNCell(1, 1, dt=0.1, epsilon=0.0, **F64)
    for p in cell.parameters():
        nn.init.constant_(p)
    nn.init.constant_(cell.weight_ih, 10.0)
    ys, zs = states(cell, np.cos(0.1 * np.arange(200))[:, None, None])  # at its own frequency
    assert (ys**2 + zs**2)[-1] > 4 * 0.1 * 200


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize(("dt", "gamma", "epsilon"), [(0.05, 1.0, 1.0), (0.1, 3.0, 5.0)])
def test_a_step_of_a_cornn_lets_gradients_grow_by_its_size_at_most(
    dt: float, gamma: float, epsilon: float, implicit: bool, rng: np.random.Generator
) -> None:
    cell = nn.CoRNNCell(
        2, 4, dt=dt, gamma=gamma, epsilon=epsilon, implicit=implicit, generator=rng, **F64
    )
    scrambled(cell, rng)
    J = mg.flow.jacobians(cell, xs=rng.normal(size=(20, 3, 2))).steps
    growth = 1 + norm(cell.weight_hh.numpy()) + norm(cell.weight_zh.numpy()) + gamma
    assert norm(J) <= 1 + dt * growth
    for n, J_n in enumerate(products(J), 1):
        assert math.log(norm(J_n)) <= n * dt * growth


@pytest.mark.parametrize(("dt", "r"), [(0.02, 0.5), (0.01, 0.6), (0.05, 1.0)])
def test_gradients_of_a_cornn_stay_below_the_papers_bound(
    dt: float, r: float, rng: np.random.Generator
) -> None:
    """|dE/dtheta| <= 3/2 (m + Y sqrt(m)) for all parameters, m units, |target| <= Y.

    E = sum_n |y_n - target_n|^2 / 2N; N dt = 1, |x| <= 1, gamma = epsilon = 1, and dt so small that
    dt (1 + |W|) and dt |V| are at most dt^r (1 + dt).
    """
    m, N = 6, round(1 / dt)
    cell = nn.CoRNNCell(3, m, dt=dt, generator=rng, **F64)
    most = dt**r * (1 + dt) / dt
    for p, size in ((cell.weight_hh, most - 1), (cell.weight_zh, most)):
        p.data = rng.uniform(0.5, 1, (m, m)) * (1 if r == 1 else rng.choice([-1, 1], (m, m)))
        p.data = p.numpy() * max(size, 0) / norm(p.numpy())
    xs, target = rng.uniform(-1, 1, (N, 1, 3)), rng.normal(size=(N, 1, m))
    _, ys = modes.run(cell, cell.init_state(1), mg.tensor(xs))
    (mg.square(ys - target).sum() / (2 * N)).backward()
    bound = 1.5 * (m + np.abs(target).max() * math.sqrt(m))
    largest = max(np.abs(p.grad.numpy()).max() for p in cell.parameters())
    assert 1e-4 < largest <= bound


# --------------------------------------------------------------------------------------------- LEM


@pytest.mark.parametrize("dt", [0.01, 0.3, 1.0])
def test_the_states_of_an_lem_are_averages_that_begin_at_0(
    dt: float, rng: np.random.Generator
) -> None:
    cell = nn.LEMCell(3, 5, dt=dt, generator=rng, **F64)
    for p in cell.parameters():
        p.data = 30 * rng.normal(size=p.shape)
    for found in states(cell, rng.normal(size=(50, 7, 3))):
        size = np.abs(found).max(axis=(1, 2))
        assert (size <= np.minimum(1, dt * np.arange(1, 51)) * (1 + 1e-14)).all()


def test_the_states_of_an_lem_leave_their_bound_where_its_time_step_is_above_1() -> None:
    cell = nn.LEMCell(1, 1, dt=1.9, **F64)
    for p in cell.parameters():
        nn.init.constant_(p, 100.0)
    assert np.abs(states(cell, np.ones((3, 1, 1)))[1]).max() > 1


@pytest.mark.parametrize(("dt", "scale"), [(0.05, 1.0), (0.3, 3.0), (1.0, 1.0)])
def test_a_step_of_an_lem_lets_gradients_grow_by_its_size_at_most(
    dt: float, scale: float, rng: np.random.Generator
) -> None:
    cell = nn.LEMCell(2, 4, dt=dt, generator=rng, **F64)
    for p in cell.parameters():
        p.data = scale * rng.normal(size=p.shape)
    J = mg.flow.jacobians(cell, xs=rng.normal(size=(20, 3, 2))).steps
    M = norm(cell.weight_hh.numpy())  # of each block, as no row is in two
    assert norm(J) <= 1 + 1.5 * dt * M * (1 + M)
    for n, J_n in enumerate(products(J), 1):
        assert math.log(norm(J_n)) <= 1.5 * M * (1 + M) * n * dt


# ----------------------------------------------------------------------------------- antisymmetric


def field(cell: Any, rng: np.random.Generator) -> Array:
    """Eigenvalues of the Jacobian of the field along a trajectory, (T, B, H)."""
    J = mg.flow.jacobians(cell, xs=rng.normal(size=(30, 4, 2))).steps
    return np.linalg.eigvals((J - np.eye(J.shape[-1])) / cell.epsilon)


@pytest.mark.parametrize("H", [1, 2, 5])
@pytest.mark.parametrize("gamma", [0.0, 0.01, 0.5])
def test_the_eigenvalues_of_an_antisymmetric_rnn_lie_left_of_0_by_its_diffusion_at_most(
    H: int, gamma: float, rng: np.random.Generator
) -> None:
    cell = nn.AntisymmetricRNNCell(
        2, H, epsilon=0.1, gamma=gamma, sigma_w=3.0, generator=rng, **F64
    )
    real = field(cell, rng).real
    assert (real <= 1e-12).all()
    assert (real >= -gamma - 1e-12).all()
    assert gamma == 0 or real.min() < 0


def test_eulers_step_leaves_the_flow_and_diffusion_makes_up_for_it(
    rng: np.random.Generator,
) -> None:
    """|1 + epsilon lambda| <= 1 is what the step needs."""
    largest = {}
    for gamma in (0.0, 1.0):
        cell = nn.AntisymmetricRNNCell(2, 5, epsilon=0.1, gamma=gamma, generator=rng, **F64)
        largest[gamma] = np.abs(1 + 0.1 * field(cell, rng)).max()
    assert largest[1.0] <= 1 < largest[0.0]


def test_a_gate_takes_the_eigenvalues_off_the_imaginary_axis(rng: np.random.Generator) -> None:
    cell = nn.AntisymmetricRNNCell(
        2, 5, gated=True, epsilon=0.1, gamma=0.0, sigma_w=3.0, generator=rng, **F64
    )
    found = field(cell, rng)
    assert np.abs(found.real).max() > 0.01
    assert np.abs(found.imag).max() > 0.01


# ------------------------------------------------------------------------------------------- sLSTM


def without_stabiliser(cell: Any, xs: Any) -> Any:
    """Equations 8 to 14, with i and f as they are: h of all steps."""
    h = c = n = mg.tensor(np.zeros((xs.shape[1], cell.hidden_size)))
    found = []
    for t in range(len(xs)):
        a = xs[t] @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T
        i, f, z, o = mg.split(a, 4, axis=-1)
        f = mg.sigmoid(f) if cell.forget == "sigmoid" else mg.exp(f)
        c, n = f * c + mg.exp(i) * mg.tanh(z), f * n + mg.exp(i)
        h = mg.sigmoid(o) * c / n
        found.append(h)
    return mg.stack(found)


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_the_stabiliser_of_an_slstm_changes_neither_outputs_nor_gradients(
    forget: str, rng: np.random.Generator
) -> None:
    cell = scrambled(nn.SLSTMCell(2, 4, forget=forget, generator=rng, **F64), rng)
    xs = mg.tensor(rng.normal(size=(15, 3, 2)), requires_grad=True)
    w, learnt, found = rng.normal(size=(15, 3, 4)), [*cell.parameters(), xs], []
    for ys in (modes.run(cell, cell.init_state(3), xs)[1], without_stabiliser(cell, xs)):
        found.append([ys, *mg.grad((ys * w).sum(), learnt)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_slstm_is_an_average_where_its_gates_would_overflow(
    forget: str, dtype: Any, rng: np.random.Generator
) -> None:
    cell = nn.SLSTMCell(2, 4, forget=forget, generator=rng, dtype=dtype)
    for p in cell.parameters():
        p.data = (1000 * rng.normal(size=p.shape)).astype(dtype)
    xs = mg.tensor(rng.normal(size=(30, 3, 2)), dtype=dtype, requires_grad=True)
    final, ys = modes.run(cell, cell.init_state(3), xs)
    ys.sum().backward()
    assert np.abs(ys.numpy()).max() <= 1 + 1e-6
    assert final.n.numpy().min() >= 1
    assert all(np.isfinite(t.grad.numpy()).all() for t in (*cell.parameters(), xs))
    with np.errstate(all="ignore"):
        assert not np.isfinite(
            without_stabiliser(cell.to(np.float64), xs.astype(np.float64)).numpy()
        ).all()


# --------------------------------------------------------------------------------------------- CfC


def test_a_cfc_is_an_average_of_what_it_was_and_what_it_becomes(rng: np.random.Generator) -> None:
    cell = nn.CfCCell(3, 5, timed=True, generator=rng, **F64)
    for p in cell.parameters():
        p.data = 3 * rng.normal(size=p.shape)
    x, h = rng.normal(size=(4, 3)), mg.tensor(rng.normal(size=(4, 5)))
    b = 1.7159 * np.tanh(
        0.666 * (x[:, :2] @ cell.weight_ih.numpy().T + h.numpy() @ cell.weight_hh.numpy().T
                 + cell.bias_ih.numpy())
    )  # fmt: skip
    f, g, k = np.split(b @ cell.weight_bh.numpy().T + cell.bias_bh.numpy(), 3, axis=-1)
    ends = {0.0: np.tanh(g) / 2 + np.tanh(k) / 2, 1e9: np.where(f < 0, np.tanh(g), np.tanh(k))}
    for t, expected in ends.items():
        x[:, 2] = t
        found = cell(h, x)[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        assert np.abs(found).max() <= 1


def test_a_cfc_whose_steps_take_1_needs_no_clock(rng: np.random.Generator) -> None:
    timed, cell = (
        nn.CfCCell(3, 4, timed=True, generator=rng, **F64),
        nn.CfCCell(2, 4, generator=rng, **F64),
    )
    cell.load_state_dict(timed.state_dict())
    xs = rng.normal(size=(6, 2, 2))
    clocked = np.concatenate([xs, np.ones((6, 2, 1))], axis=-1)
    found = [nn.Recurrent(lambda _, c=c: c, x.shape[-1], mode="tape")(x)[0].numpy()
             for c, x in ((cell, xs), (timed, clocked))]  # fmt: skip
    np.testing.assert_allclose(*found, rtol=1e-13)


def test_nothing_but_its_weights_bounds_the_gradient_of_a_cfc() -> None:
    cell = nn.CfCCell(1, 3, bias=False, **F64)
    for scale in (0.1, 1.0, 10.0):
        nn.init.identity_(cell.weight_hh, scale)
        nn.init.identity_(cell.weight_bh, scale, gates=3)
        J = mg.flow.jacobians(cell, xs=np.zeros((1, 1, 1))).steps[0, 0]
        np.testing.assert_allclose(J, 1.7159 * 0.666 * scale**2 * np.eye(3), rtol=1e-12)


# -------------------------------------------------------------------------- how they start, misuse


def test_they_start_as_their_papers_and_programs_have_it() -> None:
    H, I = 200, 50
    made = {
        kind: kind(I, H, generator=np.random.default_rng(0), **F64)
        for kind in (nn.CoRNNCell, nn.LEMCell, nn.AntisymmetricRNNCell, nn.SLSTMCell, nn.CfCCell)
    }
    for kind, bound in {
        nn.CoRNNCell: 1 / math.sqrt(I + 2 * H),
        nn.LEMCell: 1 / math.sqrt(H),
    }.items():
        for p in made[kind].parameters():
            assert 0.95 * bound < np.abs(p.numpy()).max() <= bound
    antisymmetric = made[nn.AntisymmetricRNNCell]
    assert antisymmetric.weight_hh.numpy().std() == pytest.approx(H**-0.5, rel=0.03)
    assert antisymmetric.weight_ih.numpy().std() == pytest.approx(I**-0.5, rel=0.03)
    assert not antisymmetric.bias_ih.numpy().any()
    slstm = made[nn.SLSTMCell]
    assert slstm.weight_ih.numpy().std() == pytest.approx(math.sqrt(0.4 / I), rel=0.03)
    assert not slstm.weight_hh.numpy().any()
    b = slstm.bias_ih.numpy().reshape(4, H)
    assert (b[1, 0], b[1, -1]) == (5, -7)
    assert b[1, 10] == pytest.approx(5 - 12 * (10 / 199) ** 0.3)
    assert not b[[0, 2, 3]].any()
    cfc = made[nn.CfCCell]
    for p, bound in ((cfc.weight_ih, 6 / (I + 2 * H)), (cfc.weight_hh, 6 / (I + 2 * H)),
                     (cfc.weight_bh, 6 / (2 * H))):  # fmt: skip
        assert 0.95 * math.sqrt(bound) < np.abs(p.numpy()).max() <= math.sqrt(bound)


def test_their_gates_can_be_told_how_long_to_remember() -> None:
    lem, slstm = nn.LEMCell(1, 2), nn.SLSTMCell(1, 2)
    nn.init.chrono_(lem, 50, np.random.default_rng(0))
    assert (lem.bias_ih.numpy()[:4] < 0).all()  # time steps are small where memories are long
    nn.init.chrono_(slstm, 50, np.random.default_rng(0))
    assert (slstm.bias_ih.numpy()[2:4] > 0).all()
    for cell in (nn.IndRNNCell(1, 2), nn.CoRNNCell(1, 2), nn.SLSTMCell(1, 2, forget="exp")):
        with pytest.raises(ValueError, match="with bias_ih and a gate that keeps the state"):
            nn.init.chrono_(cell, 50)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.CoRNNCell(2, 3, dt=0), ValueError, "CoRNNCell: dt must be > 0"),
        (lambda: nn.CoRNNCell(2, 3, epsilon=-1), ValueError, "CoRNNCell: epsilon must be >= 0"),
        (lambda: nn.CoRNNCell(2, 3, implicit=1), TypeError, "CoRNNCell: implicit is True or False"),
        (lambda: nn.LEMCell(2, 3, dt=math.nan), ValueError, "LEMCell: dt must be"),
        (lambda: nn.AntisymmetricRNNCell(2, 3, gamma=-0.1), ValueError, "gamma must be >= 0"),
        (lambda: nn.AntisymmetricRNNCell(2, 3, sigma_w="1"), TypeError, "sigma_w is a number"),
        (
            lambda: nn.IndRNNCell(2, 3, nonlinearity="sin"),
            ValueError,
            "'relu' or 'tanh', got 'sin'",
        ),
        (lambda: nn.IndRNNCell(2, 3, steps=0), mg.ShapeError, "IndRNNCell: steps must be >= 1"),
        (lambda: nn.SLSTMCell(2, 3, forget="tanh"), ValueError, "'sigmoid' or 'exp', got 'tanh'"),
        (lambda: nn.CfCCell(1, 3, timed=True), mg.ShapeError, "input_size must be >= 2, got 1"),
        (lambda: nn.CfCCell(1, 3, backbone_size=0), mg.ShapeError, "backbone_size must be >= 1"),
    ],
)
def test_errors_say_what_to_do(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
