"""Registration checks a declaration, and says what is wrong with it."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import scalar
from minigrad.kinds import elementwise, reduce, view
from minigrad.op import REGISTRY


@pytest.fixture(autouse=True)
def registry():
    """What a test declares is gone after it."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def test_one_declaration_gives_function_gradient_and_second_derivative():
    @elementwise
    def cube(x):
        """y = x^3."""
        return x * x * x

    @cube.vjp("x")
    def _(g, x):
        return 3.0 * g * x * x

    cube.validate()
    x = mg.tensor([2.0, -1.0], requires_grad=True)
    np.testing.assert_array_equal(cube(x).numpy(), [8, -1])
    np.testing.assert_array_equal(mg.grad(cube(x).sum(), x).numpy(), [12, 3])
    np.testing.assert_array_equal(
        mg.hessian(lambda t: cube(t).sum(), x).numpy(), [[12, 0], [0, -6]]
    )
    assert "cube" in REGISTRY


def refused(match):
    return pytest.raises(mg.DeclarationError, match=match)


def test_a_declaration_needs_a_docstring():
    with refused("op nameless: it has no docstring"):

        @elementwise
        def nameless(x):
            return x * x


def test_names_are_unique():
    with refused("op tanh: the name is taken by an op declared in minigrad.ops.activations"):

        @elementwise
        def tanh(x):
            """y = tanh(x)."""
            return scalar.tanh(x)


def test_reserved_names_of_inputs_are_refused():
    with refused("may not be called 'g'"):

        @elementwise
        def scale(g):
            """y = 2 g."""
            return g * 2.0


def test_an_unknown_option_is_refused():
    with refused("unknown option 'domian'"):

        @elementwise(domian=(0, 1))
        def half(x):
            """y = x / 2."""
            return x / 2.0


def test_a_body_must_read_every_input():
    with refused("must compute something from every input"):

        @elementwise
        def first(a, b):
            """y = a."""
            return a


@pytest.fixture
def halve():
    @elementwise
    def halve(x):
        """y = x / 2."""
        return x / 2.0

    return halve


def test_rules_are_checked_as_they_are_declared(halve):
    with refused(r"vjp\('q'\): its inputs are x"):
        halve.vjp("q")(lambda g: g)
    with refused("the first parameter must be g"):
        halve.vjp("x")(lambda x: x)
    with refused("asks for 'z'; it can have g, x, x_dtype, x_shape, y"):
        halve.vjp("x")(lambda g, z: g)
    halve.vjp("x")(lambda g: g * 0.5)
    with refused("declared twice"):
        halve.vjp("x")(lambda g: g * 0.5)


def test_a_missing_rule_is_found_by_validate_and_named_when_needed(halve):
    with refused(r"no vjp\('x'\)"):
        halve.validate()
    with refused("no gradient is declared for its input 'x'"):
        halve(mg.tensor([1.0], requires_grad=True))


def test_an_elementwise_rule_may_not_call_array_ops(halve):
    halve.vjp("x")(lambda g: mg.sum(g))
    with refused("sum is of kind reduce"):
        halve.validate()


def test_a_mask_has_no_gradient():
    with refused("differentiable=False"):
        REGISTRY["less"].vjp("a")(lambda g: g)


def test_parameters_are_bound_like_those_of_a_function():
    @view(method=False)
    def rows(x, start, count=2):
        """`count` rows from `start`."""
        return x[start : start + count]

    x = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(rows(x, 1), x[1:3])
    np.testing.assert_array_equal(rows(mg.tensor(x), start=2, count=3).numpy(), x[2:5])
    np.testing.assert_array_equal(rows(x=x, start=1), x[1:3])
    with pytest.raises(TypeError, match="missing its argument 'start'"):
        rows(x)
    with pytest.raises(TypeError, match="unexpected or repeated argument 'stride'"):
        rows(x, 1, stride=2)
    with pytest.raises(TypeError, match="at most 2 parameters"):
        rows(x, 1, 2, 3)


def test_a_number_for_an_array_op_is_taken_as_an_array():
    @reduce(method=False)
    def total(x):
        """y = sum of x."""
        return np.asarray(x.sum())

    assert total(3.0) == 3.0


def test_an_op_without_a_name_in_the_registry_cannot_be_reached():
    with pytest.raises(AttributeError, match="no op or attribute 'softsign'; did you mean 'sign'"):
        mg.tensor([1.0]).softsign()
    assert not hasattr(mg.tensor([1.0]), "__dlpack__")
