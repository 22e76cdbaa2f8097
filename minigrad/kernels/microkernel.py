"""LLVM side: the innermost loops of a matrix product, written as LLVM code for one tile shape.

This text is executed only to be compiled, behind ROWS, VECTORS, LANES, ITEMSIZE (see gemm.py for
who calls what it exports). WIDTH = VECTORS * LANES columns make a panel. All steps are in bytes.

    column(a, a_row, a_col, b, b_row, c, c_row, k, add, m, V, height)
        c[i, j] = (c[i, j] if add else 0) + sum over p < k of a[i, p] * b[p, j]
        for i < m, j < V * LANES. Rows of b and c are contiguous, a is any; m >= 1, k >= 1, and V is
        1, 2, or, while m * V <= ROWS * VECTORS, 4 or 8.
    transpose4(dst, dst_row, dst_step, src, src_row, src_step, n, add)
        dst[j, i] = (dst[j, i] if add else 0) + src[i, j] for i < 4, j < 4; the same for the squares
        at dst_step and src_step from there, n in all; n >= 1.
    transpose(...)
        the same for i < LANES, where that is more than 4.
    spread(dst, dst_step, src, panels, ahead)
        copies a contiguous row of `panels` * WIDTH numbers, WIDTH to each place; panels >= 1.
        What lies `ahead` bytes after the row is prefetched.
    take(dst, src, src_row, k, columns)
        copies a (k, columns) with contiguous rows to a contiguous (k, width), width the next
        multiple of LANES, zeros in the columns between; k >= 1, columns >= 1.

A column of c is made of tiles of up to `height` <= ROWS rows, as equal as can be. A tile of R rows
holds R * V accumulators in vector registers. Per step of k it loads V vectors of b, and R numbers
of a that it multiplies into all of them: R * V fused multiply-adds for R + V loads. Every element
of c is one chain of multiply-adds in order of p, whatever the shape of the tile.

It is LLVM code rather than Numba's because so many tiles compile in 0.3 s this way, in 1 s through
an intrinsic, and because a caller needs no copy of them.
"""

# mypy: ignore-errors

from llvmlite import ir

POINTER, VOID = ir.PointerType(), ir.VoidType()
I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
REAL = {4: ir.FloatType(), 8: ir.DoubleType()}[ITEMSIZE]
WIDTHS = 1, 2, 4, 8


def assembly():
    """The module's text, with a function for every export."""
    module = ir.Module("microkernel")
    shapes = [(rows, vectors) for vectors in WIDTHS for rows in range(1, _most(vectors) + 1)]
    _column(module, [_tile(module, rows, vectors) for rows, vectors in shapes])
    _transpose(module, "transpose4", 4)
    _transpose(module, "transpose", max(LANES, 4))
    _spread(module)
    _take(module)
    return str(module)


def _most(vectors):
    """Rows that fit the registers beside so many vectors."""
    return min(ROWS, ROWS * VECTORS // vectors)


def _function(module, name, *kinds):
    """A function with no result; returns it and a builder at its entry."""
    function = ir.Function(module, ir.FunctionType(VOID, kinds), name)
    function.attributes.add("nounwind")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def _intrinsic(module, name, result, *kinds):
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, kinds), name)


def _at(builder, base, offset):
    offset = I64(offset) if isinstance(offset, int) else offset
    return builder.gep(base, [offset], source_etype=I8)


def _load(builder, place, kind):
    value = builder.load(place, typ=kind)
    value.align = ITEMSIZE
    return value


def _store(builder, value, place):
    builder.store(value, place).align = ITEMSIZE


def _splat(builder, number, lanes):
    """A vector of equal numbers."""
    empty = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    first = builder.insert_element(empty, number, I32(0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


class _Loop:
    """`with _Loop(builder, count, (place, step), ...)`: places that move on by a step each time.

    Runs at least once.
    """

    def __init__(self, builder, count, *moving):
        self.builder, self.count, self.moving = builder, count, moving

    def __enter__(self):
        builder = self.builder
        before = builder.block
        self.body = builder.append_basic_block("loop")
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.index = self.carry(I64, I64(0), before)
        self.places = [self.carry(POINTER, start, before) for start, _ in self.moving]
        self.before = before
        return self

    def carry(self, kind, start, before=None):
        """A value that changes from turn to turn: finish it by add_incoming at the loop's end."""
        phi = self.builder.phi(kind)
        phi.add_incoming(start, before or self.before)
        return phi

    def __exit__(self, *error):
        builder = self.builder
        following = builder.add(self.index, I64(1))
        self.index.add_incoming(following, builder.block)
        for place, (_, step) in zip(self.places, self.moving):
            # Without its past hidden, LLVM sees that all places move alike, and makes them one,
            # which steps from each to the next in turn: a chain as long as a tile has rows.
            launder = "llvm.launder.invariant.group.p0"
            hidden = builder.call(_intrinsic(builder.module, launder, POINTER, POINTER), [place])
            place.add_incoming(_at(builder, hidden, step), builder.block)
        after = builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", following, self.count), self.body, after)
        builder.position_at_end(after)


def _tile(module, rows, vectors):
    kinds = [POINTER, I64, I64, POINTER, I64, POINTER, I64, I64, I64]
    function, builder = _function(module, f"tile_{rows}x{vectors}", *kinds)
    function.linkage = "private"
    a, a_row, a_col, b, b_row, c, c_row, k, add = function.args
    vector = ir.VectorType(REAL, LANES)
    size = LANES * ITEMSIZE
    bits = ITEMSIZE * 8
    # Fused where the CPU can; it would call a slow library function by the name of llvm.fma.
    fma = _intrinsic(module, f"llvm.fmuladd.v{LANES}f{bits}", vector, vector, vector, vector)

    starts = [_at(builder, a, builder.mul(a_row, I64(i))) for i in range(0, rows, 4)]
    thrice = builder.mul(a_row, I64(3))

    zero = ir.Constant(vector, [0.0] * LANES)
    with _Loop(builder, k, (b, b_row), *((start, a_col) for start in starts)) as loop:
        totals = [[loop.carry(vector, zero) for _ in range(vectors)] for _ in range(rows)]
        b_place, *a_places = loop.places
        row_of_b = [_load(builder, _at(builder, b_place, v * size), vector) for v in range(vectors)]
        sums = []
        for i in range(rows):
            number = _load(builder, _row(builder, a_places[i // 4], i % 4, a_row, thrice), REAL)
            everywhere = _splat(builder, number, LANES)
            sums.append(
                [builder.call(fma, [everywhere, row_of_b[v], totals[i][v]]) for v in range(vectors)]
            )
        for i in range(rows):
            for v in range(vectors):
                totals[i][v].add_incoming(sums[i][v], builder.block)

    with builder.if_else(builder.icmp_signed("!=", add, I64(0))) as (adding, setting):
        for branch, adds in ((adding, True), (setting, False)):
            with branch:
                row = c
                for i in range(rows):
                    for v in range(vectors):
                        place = _at(builder, row, v * size)
                        value = sums[i][v]
                        if adds:
                            value = builder.fadd(_load(builder, place, vector), value)
                        _store(builder, value, place)
                    row = _at(builder, row, c_row)
    builder.ret_void()
    return function


def _row(builder, place, i, step, thrice):
    """place + i * step, i < 4, as one addressing mode of x86."""
    if i == 2:
        return builder.gep(place, [step], source_etype=ir.ArrayType(I8, 2))
    return _at(builder, place, {0: 0, 1: step, 3: thrice}[i])


def _column(module, tiles):
    table_kind = ir.ArrayType(POINTER, len(tiles))
    table = ir.GlobalVariable(module, table_kind, "tiles")
    table.linkage, table.global_constant = "private", True
    table.initializer = table_kind([tile.bitcast(POINTER) for tile in tiles])
    kinds = [POINTER, I64, I64, POINTER, I64, POINTER, I64, I64, I64]
    tile_kind = ir.FunctionType(VOID, kinds).as_pointer()
    function, builder = _function(module, "column", *kinds, I64, I64, I64)
    a, a_row, a_col, b, b_row, c, c_row, k, add, m, wanted, height = function.args

    before, start = 0, I64(-1)  # where tiles of these vectors begin: after all with fewer
    for vectors in WIDTHS[:-1]:
        before += _most(vectors)
        more = builder.icmp_signed(">", wanted, I64(vectors))
        start = builder.select(more, I64(before - 1), start)
    count = builder.udiv(builder.add(m, builder.sub(height, I64(1))), height)
    fewest, more = builder.udiv(m, count), builder.urem(m, count)  # `more` tiles have one row more
    with _Loop(builder, count) as loop:
        a_place, c_place = loop.carry(POINTER, a), loop.carry(POINTER, c)
        extra = builder.zext(builder.icmp_signed("<", loop.index, more), I64)
        rows = builder.add(fewest, extra)
        offset = builder.mul(builder.add(start, rows), I64(8))
        tile = builder.load(_at(builder, table, offset), typ=tile_kind)
        builder.call(tile, [a_place, a_row, a_col, b, b_row, c_place, c_row, k, add])
        for place, step in ((a_place, a_row), (c_place, c_row)):
            place.add_incoming(_at(builder, place, builder.mul(rows, step)), builder.block)
    builder.ret_void()


def _transpose(module, name, many):
    """`many` rows of src at a time, four numbers of each."""
    kinds = [POINTER, I64, I64, POINTER, I64, I64, I64, I64]
    function, builder = _function(module, name, *kinds)
    dst, dst_row, dst_step, src, src_row, src_step, n, add = function.args
    four, vector = ir.VectorType(REAL, 4), ir.VectorType(REAL, many)

    def shuffle(x, y, lanes):
        return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))

    def mixed(x, y, *lanes):
        """The same lanes in every group of four; those of y count from 4."""
        groups = range(0, many, 4)
        return shuffle(x, y, [g + q if q < 4 else many + g + q - 4 for g in groups for q in lanes])

    def gathered(at, i):
        """Rows i, i + 4, i + 8 ... one after the other in a vector."""
        rows = range(i, many, 4)
        x = [_load(builder, _at(builder, at, builder.mul(src_row, I64(r))), four) for r in rows]
        while len(x) > 1:
            lanes = list(range(2 * x[0].type.count))
            x = [shuffle(*pair, lanes) for pair in zip(x[::2], x[1::2])]
        return x[0]

    adding = builder.icmp_signed("!=", add, I64(0))
    with _Loop(builder, n, (dst, dst_step), (src, src_step)) as loop:
        to, at = loop.places
        x = [gathered(at, i) for i in range(4)]
        low = mixed(x[0], x[1], 0, 4, 1, 5), mixed(x[2], x[3], 0, 4, 1, 5)
        high = mixed(x[0], x[1], 2, 6, 3, 7), mixed(x[2], x[3], 2, 6, 3, 7)
        pairs = (0, 1, 4, 5), (2, 3, 6, 7)
        y = [mixed(*half, *lanes) for half in (low, high) for lanes in pairs]
        places = [_at(builder, to, builder.mul(dst_row, I64(j))) for j in range(4)]
        with builder.if_else(adding) as (yes, no):
            with yes:
                for value, place in zip(y, places):
                    _store(builder, builder.fadd(_load(builder, place, vector), value), place)
            with no:
                for value, place in zip(y, places):
                    _store(builder, value, place)
    builder.ret_void()


def _spread(module):
    function, builder = _function(module, "spread", POINTER, I64, POINTER, I64, I64)
    dst, dst_step, src, panels, ahead = function.args
    prefetch = _intrinsic(module, "llvm.prefetch.p0", VOID, POINTER, I32, I32, I32)
    vector = ir.VectorType(REAL, LANES)
    size = LANES * ITEMSIZE
    with _Loop(builder, panels, (dst, dst_step), (src, I64(VECTORS * size))) as loop:
        to, at = loop.places
        for v in range(VECTORS):
            here = _at(builder, at, v * size)
            _store(builder, _load(builder, here, vector), _at(builder, to, v * size))
            to_read, all_caches, data = I32(0), I32(3), I32(1)
            builder.call(prefetch, [_at(builder, here, ahead), to_read, all_caches, data])
    builder.ret_void()


def _take(module):
    function, builder = _function(module, "take", POINTER, POINTER, I64, I64, I64)
    dst, src, src_row, k, columns = function.args
    vector, flags = ir.VectorType(REAL, LANES), ir.VectorType(I1, LANES)
    size = LANES * ITEMSIZE
    bits = ITEMSIZE * 8
    kinds = POINTER, I32, flags, vector
    load = _intrinsic(module, f"llvm.masked.load.v{LANES}f{bits}.p0", vector, *kinds)
    vectors = builder.sdiv(builder.add(columns, I64(LANES - 1)), I64(LANES))
    lanes = ir.Constant(ir.VectorType(I64, LANES), list(range(LANES)))
    row_size = builder.mul(vectors, I64(size))
    with _Loop(builder, k, (dst, row_size), (src, src_row)) as row:  # noqa: SIM117
        with _Loop(builder, vectors, *((place, I64(size)) for place in row.places)) as across:
            to, at = across.places
            left = builder.sub(columns, builder.mul(across.index, I64(LANES)))
            inside = builder.icmp_signed(">", _splat(builder, left, LANES), lanes)
            zero = ir.Constant(vector, [0.0] * LANES)
            _store(builder, builder.call(load, [at, I32(ITEMSIZE), inside, zero]), to)
    builder.ret_void()
