"""Where packed steps lie (compile/packing.py), worked out from what takes part.

In C, as a replay of mg.jit does it anew for the mask of every call.

    pack(job, part)        fills the arrays that say where steps and their rows lie
    tell(job, part)        the rows at which shards begin; sizes, to whom they were not known before
    clear(job, part)       zeros at the points, where a row has ended
    lift(job, part)        the same, of what is put back by `lower` afterwards
    multiply(job, part)    a product, whose sizes may have been told

Rows of arrays are any bytes: sizes of rows are in bytes.
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int32, int64, njit, types, uint8

from minigrad.kernels.intrinsics import array, caller, inner, words
from minigrad.kernels.scatter import copy, fill

# What of the numbers is found out: how many steps there are at most, the last one of them, how many
# rows of memory all steps take, and how many steps of rows take part.
STEPS, LAST, SIZE, TAKEN, NUMBERS = range(5)
# The words of a job of `pack`: addresses but for TIME, ROWS and REVERSE; ...
MASK, TIME, ROWS, REVERSE, FOUND, STARTS, COUNTS, ORDER, RANK, ENDS, PUT, LEFT_AT, TAKE, LEFT, \
    FINALS, PAIRED, FIRSTS, PACK_WORDS = range(18)  # fmt: skip
# ... of `tell`, followed by TOLD times an address, which number goes there, and how often it; ...
OF, DONE, WIDE, PARTS, BOUNDS, TOLD, TELL_WORDS = range(7)
# ... of `clear`, `lift` and `lower`; ...
NEEDED, PLACES, ALL, TABLE, WIDTH, SPARE, POINT_WORDS = range(7)
# ... and of `multiply`: an inner loop of NumPy's kind, three places, four sizes and nine steps.
LOOP, OPERANDS, SIZES, STRIDES, PRODUCT_WORDS = 0, 1, 4, 8, 17

run_loop = caller(types.int32, *[int64] * 5)
helper = njit(**inner)


@helper
def pack(job_, part):
    """From the mask (T, B) to all places. See Packing for what the arrays are."""
    job = array(job_, PACK_WORDS, int64)
    time, rows, reverse = job[TIME], job[ROWS], job[REVERSE]
    mask = array(job[MASK], (time, rows), uint8)
    numbers, starts = array(job[FOUND], NUMBERS, int64), array(job[STARTS], time + 2, int64)
    counts, rank = array(job[COUNTS], rows, int64), array(job[RANK], rows, int64)
    order, ends = array(job[ORDER], (2, rows), int64), array(job[ENDS], rows, int64)
    finals, paired = array(job[FINALS], rows, int64), array(job[PAIRED], rows, int64)
    firsts = array(job[FIRSTS], rows, int64)
    put, left_at = array(job[PUT], time * rows, int64), array(job[LEFT_AT], time * rows, int64)
    take, left = array(job[TAKE], time * rows, int64), array(job[LEFT], time * rows, int64)

    # Sorted by length, the longest first, rows of one length in their order.
    for b in range(rows):
        finals[b] = 0  # its length, for now
    for t in range(time):
        for b in range(rows):
            finals[b] += mask[t, b]
    for n in range(time + 2):
        starts[n] = 0  # of how many rows there are longer ones, for now
    taken = int64(0)
    for b in range(rows):
        starts[finals[b]] += 1
        taken += finals[b]
    longer = int64(0)
    for n in range(time, -1, -1):
        longer, starts[n] = longer + starts[n], longer
    for b in range(rows):
        i = starts[finals[b]]
        starts[finals[b]] += 1
        rank[b], order[0, i], order[1, i], counts[i] = i, b, b, finals[b]

    steps = counts[0] if rows > 0 else 0
    active = rows
    starts[0], starts[1] = 0, rows
    for k in range(steps):
        while counts[active - 1] <= k:
            active -= 1
        starts[k + 2] = starts[k + 1] + active
    size = starts[steps]
    numbers[STEPS], numbers[LAST], numbers[SIZE], numbers[TAKEN] = steps, steps - 1, size, taken

    for i in range(rows):
        ends[i] = starts[counts[i]] + i
        if ends[i] < size:
            take[ends[i]] = left[ends[i]] = -1
    for b in range(rows):
        i = rank[b]
        finals[b], paired[b], firsts[b] = 0, counts[i] % 2 * rows + i, steps % 2 * rows + i
    for n in range(time):
        t = time - 1 - n if reverse else n
        for b in range(rows):
            here = t * rows + b
            put[here] = left_at[here] = -1
            if mask[t, b]:
                k, i = finals[b], rank[b]  # so many steps of it have been
                finals[b] = k + 1
                place = starts[k] + i
                put[here], take[place] = place, here
                left_at[here] = left[place] = starts[k + 1] + i
    for b in range(rows):
        finals[b] = ends[rank[b]]


@helper
def tell(job_, part):
    """Shards have about as many steps to do, all of them."""
    job = array(job_, TELL_WORDS, int64)
    numbers, counts = array(job[OF], NUMBERS, int64), array(job[DONE], job[WIDE], int64)
    parts = job[PARTS]
    bounds = array(job[BOUNDS], parts + 1, int64)
    done, i = int64(0), int64(0)
    bounds[0] = 0
    for s in range(1, parts):
        while done * parts < s * numbers[TAKEN]:
            done += counts[i]
            i += 1
        bounds[s] = i
    bounds[parts] = job[WIDE]
    for k in range(job[TOLD]):
        to, which, times = words(job_ + 8 * (TELL_WORDS + 3 * k), 3)
        array(to, 1, int64)[0] = numbers[which] * times


@helper
def moved(job_, spares, back):
    """Zeros at the points, whose rows go to spare memory before; or they come back from there."""
    job = array(job_, POINT_WORDS, int64)
    rows, width = job[ALL], job[WIDTH]
    ends, size = array(job[PLACES], rows, int64), array(job[NEEDED], NUMBERS, int64)[SIZE]
    for i in range(rows):
        if ends[i] < size:
            here, there = job[TABLE] + ends[i] * width, job[SPARE] + i * width
            if back:
                copy(here, there, width)
            else:
                if spares:
                    copy(there, here, width)
                fill(here, int32(0), width)


@helper
def clear(job, part):
    """Of what nobody reads there."""
    moved(job, False, False)


@helper
def lift(job, part):
    """Of what is read there once more."""
    moved(job, True, False)


@helper
def lower(job, part):
    """Puts back what `lift` took."""
    moved(job, False, True)


@helper
def multiply(job, part):
    """Calls the loop of a product."""
    loop = array(job, 1, int64)[LOOP]
    run_loop(loop, 0, job + 8 * OPERANDS, job + 8 * SIZES, job + 8 * STRIDES, 0)
