import numpy as np
import pytest
from scipy import sparse

from portfolio.conic import ConicProgram


def _one(program):
    return program.constant(np.ones(1))


def test_a_linear_program_and_its_prices():
    # Dantzig's bakery: 3 a + 5 b under a <= 4, 2 b <= 12, 3 a + 2 b <= 18 is 36 at (2, 6), with prices 0, 1.5 and 1.
    program = ConicProgram()
    x = program.variable(2)
    uses = -x.through(np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 2.0]])) + np.array([4.0, 12.0, 18.0])
    rows = program.nonnegative(uses)
    program.nonnegative(x)
    solved = program.minimise(x.through(np.array([[-3.0, -5.0]])))
    assert solved.status == "optimal"
    assert solved.of(x) == pytest.approx([2, 6], abs=1e-6)
    assert solved.prices[rows] == pytest.approx([0, 1.5, 1], abs=1e-6)


def test_squares_with_constants_and_units():
    # min (2 v - 6)^2 + 3 (w + 1)^2 under v + w = 5: at the optimum 4 (2 v - 6) = 6 (w + 1), 14 v = 60.
    program = ConicProgram()
    x = program.variable(2)
    program.zero(x.total() - 5.0)
    f = x.scaled(np.array([2.0, 1.0])) + np.array([-6.0, 1.0])
    solved = program.minimise(program.constant(np.zeros(1)), [(f, np.array([1.0, 3.0]))])
    v = 60 / 14
    assert solved.of(x) == pytest.approx([v, 5 - v], abs=1e-6)


def test_a_norm_and_its_price():
    # The furthest along (3, 4) within a circle of radius 2 is 10, and 5 for each unit of the radius.
    program = ConicProgram()
    x = program.variable(2)
    row = program.norm(x, _one(program).scaled(2.0))
    solved = program.minimise(x.through(sparse.csr_array([[-3.0, -4.0]])))
    assert solved.of(x) == pytest.approx([1.2, 1.6], abs=1e-6)
    assert solved.prices[row] == pytest.approx([5], abs=1e-6)


def test_products_row_by_row():
    # The least a + 4 b with a b >= c^2 is 4 c.
    program = ConicProgram()
    a, b = program.variable(3), program.variable(3)
    root = np.array([1.0, 2.0, 0.5])
    program.product(a, b, program.constant(root))
    solved = program.minimise((a + b.scaled(4.0)).total())
    assert solved.of(a) == pytest.approx(2 * root, rel=1e-4)
    assert solved.of(b) == pytest.approx(root / 2, rel=1e-4)


def test_rows_taken_and_placed():
    program = ConicProgram()
    x = program.variable(3) + np.array([0.0, 1.0, 2.0])
    program.zero(x.rows(np.array([2, 0])).placed(np.array([0, 3]), 4) - np.array([5.0, 0.0, 0.0, 7.0]))
    program.zero(x.rows(np.array([1])) - 9.0)
    assert program.minimise(x.total()).of(x) == pytest.approx([7, 9, 5])


def test_what_cannot_be_is_none():
    program = ConicProgram()
    x = program.variable(1)
    program.nonnegative(x - 2.0)
    program.nonnegative(-x + 1.0)
    assert program.minimise(x) is None
