"""The backward pass: right sums, freed and retained graphs, edits in place, errors."""

import numpy as np
import pytest

import minigrad as mg


def leaf(*values, dtype=np.float64):
    return mg.tensor(np.array(values, dtype), requires_grad=True)


def test_a_diamond_sums_both_ways():
    x = leaf(3.0)
    y = x * x
    z = y * 2.0 + mg.tanh(y) * y
    z.backward()
    t = np.tanh(9.0)
    assert x.grad.item() == pytest.approx((2 + t + 9 * (1 - t * t)) * 6, rel=1e-14)


def test_gradients_accumulate_over_calls_until_cleared():
    x = leaf(2.0)
    for expected in (4.0, 8.0):
        (x * x).backward()
        assert x.grad.item() == expected
    x.zero_grad()
    assert x.grad is None


def test_leaves_do_not_share_the_memory_of_a_gradient():
    a, b, c = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(1.0, 1.0)
    (a + b + c).sum().backward()
    a.grad.data *= 0.0
    np.testing.assert_array_equal(b.grad.numpy(), [1, 1])
    seed = np.ones(2)
    y = leaf(1.0, 1.0)
    y.backward(seed)
    seed[:] = 7
    np.testing.assert_array_equal(y.grad.numpy(), [1, 1])


def test_a_leaf_used_many_times_sums_every_use():
    x = leaf(1.0, 2.0)
    total = x[0] * 0.0
    for k in range(7):
        total = total + x[k % 2] * float(k)
    total.backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0 + 2 + 4 + 6, 1 + 3 + 5])


def test_reading_steps_from_a_sequence_mixes_with_other_uses(rng):
    data = rng.normal(size=(5, 3))

    def f(x):
        y = x * 2.0
        parts = [mg.tanh(y[i]) for i in range(5)]
        return (mg.stack(parts) * y).sum() + y[1:4].sum() + y[np.array([0, 0, 2])].sum()

    mg.gradcheck(f, data, full=True)


def test_backward_from_a_non_scalar_needs_a_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(mg.GradientError, match=r"backward: the output is float64\[2\].*\.sum\(\)"):
        (x * 2.0).backward()
    (x * 2.0).backward([1.0, 10.0])
    np.testing.assert_array_equal(x.grad.numpy(), [2, 20])
    with pytest.raises(
        mg.ShapeError, match=r"gradient passed in is float64\[3\], the output float64\[2\]"
    ):
        (x * 2.0).backward(np.ones(3))


def test_backward_without_anything_to_differentiate_is_refused():
    with pytest.raises(mg.GradientError, match="does not depend on anything that requires"):
        mg.tensor(1.0).backward()


def test_backward_twice_is_refused_with_the_ways_out():
    x = leaf(2.0)
    y = mg.exp(x)
    y.backward()
    with pytest.raises(mg.GradientError, match=r"second time through exp .*retain_graph=True"):
        y.backward()
    z = mg.exp(x)
    z.backward(retain_graph=True)
    z.backward()
    shared = x * 2.0
    (shared * 1.0).backward()
    with pytest.raises(mg.GradientError, match="second time through multiply"):
        (shared * 3.0).backward()


def test_an_edit_of_needed_data_is_detected_and_an_unneeded_one_is_not():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * w
    with mg.no_grad():
        w[0] = 9.0
    with pytest.raises(
        mg.GradientError, match=r"multiply .* needs its input 'b', float64\[2\].* edited in place"
    ):
        y.sum().backward()
    y = x + w
    with mg.no_grad():
        w[0] = 5.0  # addition needs neither side
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1])
    t = mg.exp(x)
    with mg.no_grad():
        t[0] = 0.0
    with pytest.raises(mg.GradientError, match=r"exp .* needs its output"):
        t.sum().backward()


def test_an_edit_before_recording_or_of_new_memory_is_no_fault():
    x = leaf(1.0, 2.0)
    x.data -= 0.5
    y = x * x
    x.data = np.array([10.0, 10.0])  # other memory: what was recorded is intact
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 3])
    np.testing.assert_array_equal(x.numpy(), [10, 10])


def test_a_leaf_edited_in_place_while_recording_is_refused():
    x = leaf(1.0, 2.0)
    with pytest.raises(mg.GradientError, match="this is a leaf that requires a gradient"):
        x[0] = 5.0
    with pytest.raises(mg.GradientError, match="this is a computed tensor"):
        (x * 2.0)[0] = 5.0
    with mg.no_grad():
        x[0] = 5.0
    assert x.numpy()[0] == 5.0


def test_arrays_handed_out_for_reading_cannot_be_written():
    x = leaf(1.0)
    for view in (x.numpy(), np.asarray(x.detach())):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 2.0


def test_create_graph_makes_grad_differentiable():
    x = leaf(2.0)
    y = x**3
    y.backward(create_graph=True)
    first = x.grad
    assert first.item() == 12.0
    x.grad = None
    first.backward()
    assert x.grad.item() == 12.0  # d(3x^2)/dx


def test_gradient_of_a_float32_graph_is_float32(rng):
    x = leaf(*rng.normal(size=4), dtype=np.float32)
    mg.softmax(mg.gelu(x) * 2.0).max().backward()
    assert x.grad.dtype == np.float32


def test_a_tensor_is_copied_in_and_repr_says_what_it_is():
    source = np.ones(2)
    t = mg.tensor(source, requires_grad=True)
    source[:] = 5
    np.testing.assert_array_equal(t.numpy(), [1, 1])
    assert repr(t) == "tensor([1., 1.], requires_grad=True)"
    assert repr(mg.exp(t)).endswith("op=exp)")
    assert repr(mg.tensor([1], dtype=np.float32)) == "tensor([1.], dtype=float32)"


def test_tensors_of_unsupported_dtypes_are_refused():
    with pytest.raises(mg.DTypeError, match="cannot hold <U1"):
        mg.tensor("a")
    with pytest.raises(mg.DTypeError, match="cannot hold float16"):
        mg.tensor(np.ones(2, np.float16))
    with pytest.raises(
        mg.DTypeError, match="requires_grad=True needs float32 or float64, got int64"
    ):
        mg.tensor([1, 2], requires_grad=True)


def test_reshape_and_transpose_take_numbers_or_a_tuple():
    t = mg.tensor(np.arange(24.0))
    assert t.reshape(2, -1, 4).shape == t.reshape((2, 3, 4)).shape == (2, 3, 4)
    assert t.reshape(24).shape == t.reshape(-1).shape == (24,)
    cube = t.reshape(2, 3, 4)
    assert cube.transpose(1, 2, 0).shape == cube.transpose((1, 2, 0)).shape == (3, 4, 2)
    assert cube.transpose().shape == cube.T.shape == (4, 3, 2)


def test_python_protocols_of_a_tensor():
    t = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert len(t) == 2
    assert [row.tolist() for row in t] == [[1, 2], [3, 4]]
    assert float(t[0, 1]) == 2.0
    assert t.T.shape == (2, 2)
    assert bool(mg.tensor(0.0)) is False
    with pytest.raises(mg.ShapeError, match="no single truth value"):
        bool(t)
    with pytest.raises(mg.ShapeError, match="item: expected one element"):
        t.item()
    with pytest.raises(
        mg.ShapeError, match=r"data: this tensor is float64\[2, 2\], got float64\[3\]"
    ):
        t.data = np.ones(3)
