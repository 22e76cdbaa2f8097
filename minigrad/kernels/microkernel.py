"""What a matrix product needs of LLVM: its innermost loop, in registers, and views of memory.

    tiles(a, a_row, a_col, b, b_row, c, c_row, k, m, vectors, height, add, ahead, real)
        c (+)= a @ b for addresses of a (m, k) of any steps, and of b and c, whose rows are
        contiguous and `vectors` (1, 2, 4, 8) vectors long. A tile has at most `height` rows.
        Meanwhile what lies `ahead` of b, as many bytes on, is brought near: its next panel
    square(y, x, i, j, add)     y[j : j + 4, i : i + 4] (+)= x[i : i + 4, j : j + 4].T, where rows
                                of both are contiguous
    vector(y, x, count, real)   one vector from address to address; zeros past `count` numbers
    matrix(p, rows, row_step, columns, column_step, real)   what lies at an address, as an array
    part(a, i, rows, j, columns)    a[i : i + rows, j : j + columns] of a 2-D array, a view
    write(p, (x, y, z))             whole numbers, one after the other at an address
    linked(word, function)      a call of the compiled function, by its address in a table

Steps are in bytes. A tile of R rows and V vectors holds R * V accumulators in vector registers. Per
step of k it loads V vectors of b, and R numbers of a that it multiplies into all of them: R * V
fused multiply-adds for R + V loads. Every element of c is one chain of multiply-adds in order of k,
whatever the tile.

With NUMBA_BOUNDSCHECK=1 the corners of each `part` are looked at first, which Numba checks.
"""

# mypy: ignore-errors

from __future__ import annotations

import inspect
import platform
from functools import cache
from itertools import chain

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from minigrad.kernels import host
from minigrad.kernels.intrinsics import CHECKED, _element, declared, inner

_I1, _I8, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
_POINTER, _VOID = _I8.as_pointer(), ir.VoidType()

WIDTHS = 1, 2, 4, 8  # vectors in a row of a tile
WIDE = host.vector_bits() == 512
# Of 32 registers or of 16: the others hold a row of b and a number of a.
ACCUMULATORS = 24 if WIDE or platform.machine() in ("arm64", "aarch64") else 12
ROWS = ACCUMULATORS // 2  # of a tile at most
# Of a panel: 6 x 4 accumulators want 10 loads for a step of k, 12 x 2 want 14, and as much of b a
# multiply-add again.
VECTORS = 4 if WIDE else 2
LEFT = 2 * ROWS  # with more rows yet to do, the next tile is chosen as if there were so many
LINE = 64  # bytes, of a cache


def heights(vectors):
    """The numbers of rows that there are tiles of: each costs compile time."""
    wanted = {
        1: (1, 2, 4, 6, 8, 12),
        2: (1, 2, 3, 4, 5, 6, 7, 8, 10, 12),
        4: (1, 2, 3, 4, 6),
        8: (1,),
    }
    most = min(ROWS, ACCUMULATORS // vectors)
    return tuple(rows for rows in wanted[vectors] if rows <= most)


@cache
def first_height(left, vectors):
    """Rows of the first tile for `left` rows, such that all of them take the least time."""
    return min(reversed(heights(vectors)), key=lambda rows: _cycles(rows, left, vectors))


@cache
def _cycles(rows, left, vectors):
    """Of a step of k, over all tiles if the first has so many rows; two multiply-adds a cycle."""
    if rows > left:
        return float("inf")
    # 5: as long as one of these takes; 1 + 8 / rows: for reading b again.
    own = max(5, rows * vectors / 2) + 1 + 8 / rows
    rest = left - rows
    return own + (_cycles(first_height(rest, vectors), rest, vectors) if rest else 0)


# -- views -----------------------------------------------------------------------------------------


@intrinsic
def matrix(typing, p, rows, row_step, columns, column_step, dtype):
    """The 2-D array at an address."""
    number = _element(dtype)
    kind = types.Array(number, 2, "A")

    def generate(context, builder, signature, args):
        p, rows, row_step, columns, column_step, _ = args
        view = cgutils.create_struct_proxy(kind)(context, builder)
        view.data = builder.inttoptr(p, view.data.type)
        view.nitems = builder.mul(rows, columns)
        view.itemsize = _I64(number.bitwidth // 8)
        view.shape = cgutils.pack_array(builder, [rows, columns])
        view.strides = cgutils.pack_array(builder, [row_step, column_step])
        return view._getvalue()

    return kind(*[types.int64] * 5, dtype), generate


@intrinsic
def itemsize(typing, a):
    """Bytes of a number of an array, a constant."""
    return types.int64(a), lambda context, builder, signature, args: _I64(a.dtype.bitwidth // 8)


@intrinsic
def address(typing, a):
    """Of an array's first number. a.ctypes.data is the same, and counts references."""

    def generate(context, builder, signature, args):
        data = cgutils.create_struct_proxy(a)(context, builder, value=args[0]).data
        return builder.ptrtoint(data, _I64)

    return types.int64(a), generate


@intrinsic
def scratch(typing, size):
    """The address of so many bytes, a literal or a constant, in the caller's frame."""
    if not isinstance(size, types.IntegerLiteral):  # Numba asks again, with a literal
        return None

    def generate(context, builder, signature, args):
        with builder.goto_entry_block():  # cgutils.alloca_once would fill it with zeros
            place = builder.alloca(ir.ArrayType(_I8, size.literal_value))
        place.align = 64
        return builder.ptrtoint(place, _I64)

    return types.int64(size), generate


@intrinsic
def _part(typing, a, i, rows, j, columns):
    kind = types.Array(a.dtype, 2, "A")

    def generate(context, builder, signature, args):
        whole = cgutils.create_struct_proxy(a)(context, builder, value=args[0])
        _, i, rows, j, columns = args
        view = cgutils.create_struct_proxy(kind)(context, builder)
        row_step, column_step = cgutils.unpack_tuple(builder, whole.strides)
        offset = builder.add(builder.mul(i, row_step), builder.mul(j, column_step))
        place = _at(builder, builder.bitcast(whole.data, _POINTER), offset)
        view.data = builder.bitcast(place, view.data.type)
        view.nitems = builder.mul(rows, columns)
        view.itemsize, view.strides = whole.itemsize, whole.strides
        view.shape = cgutils.pack_array(builder, [rows, columns])
        return view._getvalue()

    return kind(a, *[types.int64] * 4), generate


if CHECKED:

    @njit(**inner)
    def part(a, i, rows, j, columns):
        if rows > 0 and columns > 0:
            a[i, j]
            a[i + rows - 1, j + columns - 1]
        return _part(a, i, rows, j, columns)

else:
    part = _part


@intrinsic
def write(typing, p, words):
    """Whole numbers, a tuple, one after the other at an address."""

    def generate(context, builder, signature, args):
        for i, word in enumerate(cgutils.unpack_tuple(builder, args[1])):
            builder.store(
                word, builder.inttoptr(builder.add(args[0], _I64(8 * i)), word.type.as_pointer())
            )
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, len(words))), generate


def linked(word, function):
    """function(table, *whole numbers, real) as a call of the C function that is made of it, whose
    address is that word of the table; the function itself where errors have to reach the caller.
    """
    if CHECKED:
        return function
    count = len(inspect.signature(function).parameters) - 1  # of words

    @intrinsic
    def called(typing, table, *arguments):
        def generate(context, builder, signature, args):
            place = _at(builder, builder.inttoptr(args[0], _POINTER), 8 * word)
            found = builder.load(builder.bitcast(place, _I64.as_pointer()))
            kind = ir.FunctionType(_VOID, [_I64] * count)
            *words, _ = cgutils.unpack_tuple(builder, args[1])
            builder.call(builder.inttoptr(found, kind.as_pointer()), [args[0], *words])
            return context.get_dummy_value()

        if len(arguments) == 1 and isinstance(arguments[0], types.BaseTuple):
            arguments = arguments[0].types  # Numba asks again, with the tuple that it made of them
        rest = types.StarArgTuple.from_types([types.int64] * (count - 1) + [arguments[-1]])
        return types.void(types.int64, rest), generate

    return called


# -- whole numbers: Numba takes twice as long to compile min(x, y) or -(-x // y) -------------------


@intrinsic
def least(typing, x, y):
    """The smaller of two."""

    def generate(context, builder, signature, args):
        return _least(builder, *args)

    return types.int64(types.int64, types.int64), generate


@intrinsic
def up(typing, x, y):
    """x / y rounded up, for x >= 0 and y > 0."""

    def generate(context, builder, signature, args):
        x, y = args
        return builder.udiv(builder.add(x, builder.sub(y, _I64(1))), y)

    return types.int64(types.int64, types.int64), generate


# -- code generation -------------------------------------------------------------------------------


def _at(builder, base, offset):
    """The place some bytes after another."""
    offset = _I64(offset) if isinstance(offset, int) else offset
    return builder.gep(base, [offset], source_etype=_I8)


def _load(builder, place, kind):
    found = builder.load(builder.bitcast(place, kind.as_pointer()))
    found.align = _size(kind)
    return found


def _store(builder, value, place):
    place = builder.bitcast(place, value.type.as_pointer())
    builder.store(value, place).align = _size(value.type)


def _least(builder, x, y):
    return builder.select(builder.icmp_signed("<", x, y), x, y)


def _size(kind):
    """Bytes of a number, or of one of a vector's."""
    return 4 if isinstance(getattr(kind, "element", kind), ir.FloatType) else 8


def _splat(builder, number, lanes):
    """A vector of equal numbers."""
    empty = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(empty, number, _I32(0))
    return builder.shuffle_vector(first, empty, _lanes([0] * lanes))


def _lanes(numbers):
    return ir.Constant(ir.VectorType(_I32, len(numbers)), list(numbers))


# -- the tile --------------------------------------------------------------------------------------


@intrinsic
def tiles(typing, a, a_row, a_col, b, b_row, c, c_row, k, m, vectors, height, add, ahead, dtype):
    """c (+)= a @ b, see above."""
    number = _element(dtype)

    def generate(context, builder, signature, args):
        real = context.get_value_type(number)
        a, a_row, a_col, b, b_row, c, c_row, k, m, vectors, height, add, ahead, _ = args
        # A tile brings a line a step of k: all of them the next panel, then it again.
        brought = builder.mul(k, _I64(LINE))
        panel = builder.mul(builder.mul(k, vectors), _I64(host.vector_bits() // 8))
        before = builder.block
        loop, after = map(builder.append_basic_block, ("column", "after"))
        impossible, done = map(builder.append_basic_block, ("impossible", "done"))
        builder.branch(loop)
        builder.position_at_end(loop)
        i, near = builder.phi(_I64), builder.phi(_I64)
        a_at, b_at, c_at = (
            _at(builder, builder.inttoptr(place, _POINTER), offset)
            for place, offset in ((a, builder.mul(i, a_row)), (b, 0), (c, builder.mul(i, c_row)))
        )
        next_at = _at(builder, b_at, builder.add(ahead, near))
        left = _least(builder, builder.sub(m, i), height)
        cases = builder.switch(builder.add(builder.mul(vectors, _I64(LEFT + 1)), left), impossible)
        builder.position_at_end(done)
        rows = builder.phi(_I64)
        for v in WIDTHS:
            for r in heights(v):
                tile = _tile(builder.module, real, r, v)
                builder.position_at_end(builder.append_basic_block(f"tile_{r}x{v}"))
                for count in (n for n in range(1, LEFT + 1) if first_height(n, v) == r):
                    cases.add_case(_I64((LEFT + 1) * v + count), builder.block)
                builder.call(tile, [a_at, a_row, a_col, b_at, b_row, c_at, c_row, k, add, next_at])
                rows.add_incoming(_I64(r), builder.block)
                builder.branch(done)
        builder.position_at_end(impossible)
        builder.unreachable()
        builder.position_at_end(done)
        following = builder.add(i, rows)
        i.add_incoming(_I64(0), before)
        i.add_incoming(following, done)
        nearer = builder.add(near, brought)
        less = builder.icmp_signed("<", nearer, panel)
        near.add_incoming(_I64(0), before)
        near.add_incoming(builder.select(less, nearer, _I64(0)), done)
        builder.cbranch(builder.icmp_signed("<", following, m), loop, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 13, dtype), generate


def _tile(module, real, rows, vectors):
    """The function of one shape, (a, a_row, a_col, b, b_row, c, c_row, k, add, ahead); k >= 1."""
    bits, lanes = 8 * _size(real), host.lanes(_size(real))
    vector, size = ir.VectorType(real, lanes), lanes * _size(real)
    kinds = [_POINTER, _I64, _I64, _POINTER, _I64, _POINTER, _I64, _I64, _I64, _POINTER]
    function = ir.Function(module, ir.FunctionType(_VOID, kinds), f"tile_{rows}x{vectors}_f{bits}")
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        function.attributes.add(attribute)
    a, a_row, a_col, b, b_row, c, c_row, k, add, ahead = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    # Fused where the CPU can; it would call a slow library function by the name of llvm.fma.
    fma = declared(builder, f"llvm.fmuladd.v{lanes}f{bits}", vector, vector, vector, vector)
    launder = declared(builder, "llvm.launder.invariant.group.p0", _POINTER, _POINTER)
    starts = [b, *(_at(builder, a, builder.mul(a_row, _I64(i))) for i in range(0, rows, 4))]
    thrice = builder.mul(a_row, _I64(3))

    entry, loop, after = builder.block, *map(builder.append_basic_block, ("loop", "after"))
    builder.branch(loop)
    builder.position_at_end(loop)
    step, line = builder.phi(_I64), builder.phi(_POINTER)
    places = [builder.phi(_POINTER) for _ in starts]
    totals = [[builder.phi(vector) for _ in range(vectors)] for _ in range(rows)]
    row_of_b = [_load(builder, _at(builder, places[0], v * size), vector) for v in range(vectors)]
    # Panels that only L3 holds are awaited otherwise: it took a third of a product with 4 MB of b.
    bring = declared(builder, "llvm.prefetch.p0", _VOID, _POINTER, _I32, _I32, _I32)
    builder.call(bring, [line, _I32(0), _I32(2), _I32(1)])  # for reading, into L2, data
    sums = []
    for i in range(rows):
        place = places[1 + i // 4]
        if i % 4 == 2:  # one addressing mode of x86, as are the other three
            place = builder.gep(place, [a_row], source_etype=ir.ArrayType(_I8, 2))
        elif i % 4:
            place = _at(builder, place, {1: a_row, 3: thrice}[i % 4])
        number = _splat(builder, _load(builder, place, real), lanes)
        sums.append([builder.call(fma, [number, x, t]) for x, t in zip(row_of_b, totals[i])])
    following, next_line = builder.add(step, _I64(1)), _at(builder, line, LINE)
    # Without their past hidden, LLVM sees that all places move alike, and makes them one, which
    # steps from each to the next in turn: a chain as long as a tile has rows.
    moved = [
        _at(builder, builder.call(launder, [place]), by)
        for place, by in zip(places, [b_row] + [a_col] * rows)
    ]
    builder.cbranch(builder.icmp_signed("<", following, k), loop, after)
    zero = ir.Constant(vector, [0.0] * lanes)
    for phi, first, later in zip(
        [step, line, *places, *chain(*totals)],
        [_I64(0), ahead, *starts, *[zero] * (rows * vectors)],
        [following, next_line, *moved, *chain(*sums)],
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(later, loop)

    builder.position_at_end(after)
    with builder.if_else(builder.icmp_signed("!=", add, _I64(0))) as (adding, setting):
        for branch, adds in ((adding, True), (setting, False)):
            with branch:
                row = c
                for values in sums:
                    for v, value in enumerate(values):
                        place = _at(builder, row, v * size)
                        if adds:
                            value = builder.fadd(_load(builder, place, vector), value)
                        _store(builder, value, place)
                    row = _at(builder, row, c_row)
    builder.ret_void()
    return function


# -- packing ---------------------------------------------------------------------------------------


@intrinsic
def square(typing, y, x, i, j, add):
    """y[j : j + 4, i : i + 4] (+)= x[i : i + 4, j : j + 4].T."""

    def generate(context, builder, signature, args):
        real = context.get_value_type(x.dtype)
        four = ir.VectorType(real, 4)
        y_, x_ = (
            cgutils.create_struct_proxy(kind)(context, builder, value=value)
            for kind, value in zip((y, x), args[:2])
        )

        def rows(array, i, j):
            """The places of four rows of four numbers, the first of which is array[i, j]."""
            step = builder.extract_value(array.strides, 0)
            offset = builder.add(builder.mul(i, step), builder.mul(j, _I64(_size(real))))
            place = _at(builder, builder.bitcast(array.data, _POINTER), offset)
            return [_at(builder, place, builder.mul(step, _I64(r))) for r in range(4)]

        def mixed(x, y, *numbers):
            return builder.shuffle_vector(x, y, _lanes(numbers))

        _, _, i, j, add = args
        r = [_load(builder, place, four) for place in rows(x_, i, j)]
        low = mixed(r[0], r[1], 0, 4, 1, 5), mixed(r[2], r[3], 0, 4, 1, 5)
        high = mixed(r[0], r[1], 2, 6, 3, 7), mixed(r[2], r[3], 2, 6, 3, 7)
        pairs = (0, 1, 4, 5), (2, 3, 6, 7)
        columns = [mixed(*half, *numbers) for half in (low, high) for numbers in pairs]
        places = rows(y_, j, i)
        with builder.if_else(builder.icmp_signed("!=", add, _I64(0))) as (adding, setting):
            with adding:
                for value, place in zip(columns, places):
                    _store(builder, builder.fadd(_load(builder, place, four), value), place)
            with setting:
                for value, place in zip(columns, places):
                    _store(builder, value, place)
        return context.get_dummy_value()

    return types.void(y, x, *[types.int64] * 3), generate


@intrinsic
def vector(typing, y, x, count, dtype):
    """One vector from address to address; zeros past `count` numbers."""
    number = _element(dtype)

    def generate(context, builder, signature, args):
        real = context.get_value_type(number)
        lanes = host.lanes(_size(real))
        kind, mask = ir.VectorType(real, lanes), ir.VectorType(_I1, lanes)
        to, of = (builder.inttoptr(place, _POINTER) for place in args[:2])
        read = declared(
            builder, f"llvm.masked.load.v{lanes}f{number.bitwidth}.p0",
            kind, _POINTER, _I32, mask, kind,
        )  # fmt: skip
        whole = builder.icmp_signed(">=", args[2], _I64(lanes))
        with builder.if_else(whole) as (full, cut):
            with full:
                _store(builder, _load(builder, of, kind), to)
            with cut:
                inside = _first(builder, args[2], lanes, number.bitwidth)
                zero = ir.Constant(kind, [0.0] * lanes)
                _store(builder, builder.call(read, [of, _I32(_size(real)), inside, zero]), to)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3, dtype), generate


def _first(builder, count, lanes, bits):
    """A mask of the first `count` lanes. It is read, not computed: with a mask computed for every
    vector, packing took 1.7 times as long (AVX2, Zen 1).
    """
    whole = ir.IntType(bits)
    kind, name = ir.ArrayType(whole, 2 * lanes), f"first_of_{lanes}x{bits}"
    table = builder.module.globals.get(name)
    if table is None:
        table = ir.GlobalVariable(builder.module, kind, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(kind, [-1] * lanes + [0] * lanes)
    none = builder.icmp_signed("<", count, _I64(0))
    skipped = builder.sub(_I64(lanes), builder.select(none, _I64(0), count))
    place = builder.gep(table, [_I64(0), skipped])
    flags = builder.load(builder.bitcast(place, ir.VectorType(whole, lanes).as_pointer()))
    flags.align = bits // 8
    return builder.icmp_signed("<", flags, ir.Constant(flags.type, [0] * lanes))
