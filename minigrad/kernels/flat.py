"""A list of calls as few calls of C: what is compiled runs one after the other without Python.

    calls = [(f, arguments), ...]      f(*arguments), to be done again and again
    for f, arguments in joined(calls):
        f(*arguments)                  does the same, to the bit

What is known here: kernels and work for the threads, our ufuncs, copies between arrays of one
dtype, `Check`, which ends the list with an error, and `Update`, which has some Python before and
behind it. All else is called as it was, between the others. Calls know where arrays lie: they stay
where they are, and whoever keeps the list keeps them alive.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels import arena, jit, threads
from minigrad.kernels.compiler import Kernel, build_from
from minigrad.kernels.index import below_work
from minigrad.kernels.ufuncs import LOOPS
from minigrad.kernels.work import ENTRY, call, words

Array = np.ndarray
Call = tuple[Callable[..., Any], tuple[Any, ...]]
Words = tuple[int, ...]
_C_FUNCTION: Any = ctypes.CFUNCTYPE(None).__base__


class Check:
    """Calls `raises` if the last word of a job is above `bound`: an index was out of range."""

    def __init__(self, job: Array, bound: int, raises: Callable[[], Any]):
        self.job, self.bound, self.raises = job, bound, raises

    def __call__(self) -> None:
        if self.job[-1] > self.bound:
            self.raises()


class Update:
    """A kernel with Python around it, that of an optimiser.

    function(*arguments) is the kernel. before() gives the arguments of the next run; of what the
    list computes it reads nothing. after(): what to do once it has run. of: what before and after
    read and write: the next update of the same waits for this one.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: Words, before: Callable[[], Words],
        after: Callable[[], Any], of: Any = None,
    ):  # fmt: skip
        self.function, self.arguments = function, arguments
        self.before, self.after, self.of = before, after, of

    def __call__(self) -> None:
        arguments = self.before()
        self.function(*arguments)
        self.after()


class Beside:
    """Lists of calls that need nothing of one another: all of each at once, where all are of C.

    otherwise: calls that do the same.
    """

    def __init__(self, lists: Sequence[Sequence[Call]], otherwise: Sequence[Call]):
        self.lists, self.otherwise = lists, otherwise

    def __call__(self) -> None:
        for f, arguments in self.otherwise:
            f(*arguments)

    def steps(self) -> list[_Step] | None:
        runs = [joined(calls) for calls in self.lists]
        lists = [run[0][0] for run in runs if len(run) == 1 and isinstance(run[0][0], Joined)]
        if len(lists) < len(runs) or any(not each.unwatched for each in lists):
            return None
        run, address = _kernel()["run"], arena.address
        calls = [(run, address(each.words), address(each.progress)) for each in lists]
        (f, arguments), words = threads.at_once(calls)
        step = _of_c(f, arguments)
        return None if step is None else [step._replace(owner=(lists, words))]


def joined(calls: Sequence[Call]) -> list[Call]:
    """The same calls, those that follow one another in C as one."""
    if jit.mode() != "native":
        return list(calls)
    found: list[Call] = []
    run: list[_Step] = []

    def close() -> None:
        if run:
            found.append((Joined(run.copy()), ()))
            run.clear()

    rest = list(calls)[::-1]
    while rest:
        f, arguments = rest.pop()
        steps = f.steps() if isinstance(f, Beside) else _steps(f, arguments)
        if steps is None and isinstance(f, Beside):
            rest += f.otherwise[::-1]
            continue
        if steps is None:
            close()
            found.append((f, arguments))
            continue
        if any(isinstance(step.owner, Update) and _waits(step.owner, run) for step in steps):
            close()
        run += steps
    close()
    return found


def _waits(update: Update, steps: Sequence[_Step]) -> bool:
    """Whether an update among them has to be over before this one begins."""
    if update.of is None:
        return False
    return any(isinstance(s.owner, Update) and s.owner.of is update.of for s in steps)


class _Step(NamedTuple):
    """A call of C. words: as replay.py has them, the arguments; owner: keeps what they point to."""

    kind: int
    function: int
    words: Words
    owner: Any = None


class Joined:
    """Calls of C as one."""

    def __init__(self, steps: Sequence[_Step]):
        layout = _layout()
        self.steps = steps
        self.words = np.zeros((len(steps), layout.WIDTH), np.int64)
        self.progress = np.array([len(steps), 0], np.int64)
        self.updates: list[tuple[Update, Array]] = []
        for row, step in zip(self.words, steps, strict=True):
            row[layout.KIND], row[layout.FUNCTION] = step.kind, step.function
            into = row[layout.ARGUMENTS : layout.ARGUMENTS + len(step.words)]
            into[:] = step.words
            if isinstance(step.owner, Update):  # its own arguments are the last ones
                self.updates.append((step.owner, into[-len(step.owner.arguments) :]))
        self.run = partial(
            _kernel().function("run"), arena.address(self.words), arena.address(self.progress)
        )

    @property
    def unwatched(self) -> bool:
        """Whether there is nothing for Python to do before it, or to look at behind it."""
        return not any(isinstance(step.owner, (Check, Update)) for step in self.steps)

    def __call__(self) -> None:
        for update, into in self.updates:
            into[:] = update.before()
        self.progress[1] = 0
        try:
            self.run()
        finally:  # Ctrl-C comes when C is done, and what was done is noted
            done = int(self.progress[1])
            if done == len(self.steps):
                for update, _ in self.updates:
                    update.after()
        if done < len(self.steps):
            self.steps[done].owner.raises()
            raise jit.KernelError("a check failed and raised nothing: what follows has not run.")


def _steps(f: Any, arguments: tuple[Any, ...]) -> list[_Step] | None:
    """A call as calls of C; None if it has to be called from Python."""
    if isinstance(f, Check):
        return [_Step(_layout().CHECK, arena.address(f.job[-1:]), (f.bound,), f)]
    if isinstance(f, Update):
        found = _of_c(f.function, f.arguments)
        return None if found is None else [found._replace(owner=f)]
    if isinstance(f, np.ufunc):
        return _of_ufunc(f, arguments)
    of = getattr(f, "__self__", None)
    name = getattr(f, "__name__", "")
    if isinstance(of, np.ndarray) and name == "__setitem__" and len(arguments) == 2:
        index, source = arguments
        return _copies([(view_at(of, index), source)])
    if isinstance(of, np.ndarray) and name == "fill" and arguments == (0,):
        return _copies([(of, np.zeros((), of.dtype))])
    if f is np.concatenate and len(arguments) == 3:
        return _joining(*arguments)
    if of is np.add and name == "reduce" and len(arguments) == 5:
        return _row_sum(*arguments)
    found = _of_c(f, arguments)
    return None if found is None else [found]


def _of_c(f: Any, arguments: Sequence[Any]) -> _Step | None:
    """A C function of whole numbers, also under `partial` or started by the pool."""
    while isinstance(f, partial) and not f.keywords:
        f, arguments = f.func, (*f.args, *arguments)
    links = threads.links()
    if f is threads.parallel_for:
        address = links["minigrad_parallel_for"]
    elif f is threads.together:
        address, arguments = links["minigrad_together"], (threads.pool_words(), *arguments)
    elif isinstance(f, _C_FUNCTION):
        address = ctypes.cast(f, ctypes.c_void_p).value or 0
    else:
        return None
    if len(arguments) not in _layout().CALLS or not all(type(x) is int for x in arguments):
        return None
    return _Step(len(arguments), address, tuple(arguments))


# -- ufuncs


def _of_ufunc(f: np.ufunc, arrays: Sequence[Any]) -> list[_Step] | None:
    """One of ours, on arrays that it would neither convert nor copy."""
    known = LOOPS.get(f)
    if known is None or len(arrays) != f.nargs:
        return None
    address, types, core = known
    outputs = arrays[f.nin :]
    for x, char in zip(arrays, types.replace("->", ""), strict=True):
        if not isinstance(x, np.ndarray) or x.dtype.char != char or not x.flags.aligned:
            return None
    if any(np.may_share_memory(x, y) for y in outputs for x in arrays if x is not y):
        return None
    if core is None:
        shape = outputs[0].shape
        if any(y.shape != shape for y in outputs):
            return None
        strides = [_broadcast(x, shape) for x in arrays]
        return None if None in strides else _elementwise(address, arrays, shape, strides)
    return _generalised(address, arrays, core)


def _broadcast(x: Array, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The strides of x as an array of that shape; None if it has no such."""
    try:
        return np.broadcast_to(x, shape).strides
    except ValueError:
        return None


def _elementwise(
    address: int, arrays: Sequence[Array], shape: tuple[int, ...], strides: Sequence[Any]
) -> list[_Step] | None:
    sizes, steps = _merged(shape, strides)
    if 0 in sizes:
        return []
    if len(sizes) == 1:
        return [_loop(address, arrays, sizes, [s[0] for s in steps])]
    layout = _layout()
    if len(arrays) > layout.MOST_OPERANDS:
        return None
    *outer, size = sizes
    job = words(
        address, len(arrays), len(outer), size, *map(arena.address, arrays),
        *(s[-1] for s in steps), *outer, *(step for s in steps for step in s[:-1]),
    )  # fmt: skip
    return [_job(_kernel()["nest"], job)]


def _merged(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[list[int], list[list[int]]]:
    """Axes in the order of the last operand's memory, neighbours as one where all steps allow it:
    (sizes, the steps of each operand), of one axis at least.
    """
    order = sorted(range(len(shape)), key=lambda axis: -abs(strides[-1][axis]))
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis in order:
        n = shape[axis]
        if n == 1:
            continue
        if sizes and all(s[-1] == n * x[axis] for s, x in zip(steps, strides, strict=True)):
            sizes[-1] *= n
            for s, x in zip(steps, strides, strict=True):
                s[-1] = x[axis]
            continue
        sizes.append(n)
        for s, x in zip(steps, strides, strict=True):
            s.append(x[axis])
    if not sizes:
        return [1], [[0] for _ in strides]
    return sizes, steps


def _generalised(address: int, arrays: Sequence[Array], core: str) -> list[_Step] | None:
    """On the axes of its signature alone, with none that it is repeated over."""
    names = [part.strip("()").replace("?", "") for part in core.replace("->", ",(").split(",(")]
    axes = [[name for name in part.rstrip(")").split(",") if name] for part in names]
    sizes: dict[str, int] = {}
    for x, own in zip(arrays, axes, strict=True):
        if x.ndim != len(own):
            return None
        for name, n in zip(own, x.shape, strict=True):
            if sizes.setdefault(name, n) != n:
                return None
    steps = [0] * len(arrays) + [step for x in arrays for step in x.strides]
    return [_loop(address, arrays, [1, *sizes.values()], steps)]


def _loop(
    address: int, arrays: Sequence[Array], sizes: Sequence[int], steps: Sequence[int]
) -> _Step:
    """One call of an inner loop."""
    places = words(*map(arena.address, arrays)), words(*sizes), words(*steps)
    return _Step(_layout().LOOP, address, (0, *map(arena.address, places), 0), places)


# -- arrays


def view_at(array: Array, index: Any) -> Any:
    """array[index] as a view; None if it is none."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(p is None or p is ... or type(p) in (int, slice) for p in parts):
        return None  # x[True] is a copy
    return array[parts if any(p is ... for p in parts) else (*parts, ...)]


def _copies(pairs: Iterable[tuple[Any, Any]]) -> list[_Step] | None:
    """to[...] = source, for each pair."""
    found = []
    for to, source in pairs:
        if not (isinstance(to, np.ndarray) and isinstance(source, np.ndarray)):
            return None
        item = to.dtype.itemsize
        if to.dtype != source.dtype or to.dtype.hasobject or item not in (1, 2, 4, 8):
            return None
        strides = _broadcast(source, to.shape)
        if strides is None or np.may_share_memory(to, source):
            return None
        sizes, (at, by) = _merged(to.shape, [strides, to.strides])
        if 0 not in sizes:
            places = arena.address(to), arena.address(source)
            job = words(*places, item, len(sizes), *sizes, *by, *at)
            found.append(_job(_kernel()["copy"], job, source))
    return found


def _joining(arrays: Sequence[Array], axis: int, out: Array) -> list[_Step] | None:
    """np.concatenate, as copies."""
    lead = (slice(None),) * (axis % out.ndim)
    pairs, start = [], 0
    for x in arrays:
        stop = start + x.shape[axis]
        pairs.append((out[(*lead, slice(start, stop))], x))
        start = stop
    return _copies(pairs)


def _row_sum(x: Any, axis: Any, dtype: Any, out: Any, keepdims: Any) -> list[_Step] | None:
    """np.add.reduce over the rows of a matrix; of one column NumPy adds in another order."""
    if x.ndim != 2 or axis != 0 or dtype is not None or x.shape[0] < 1 or x.shape[1] < 2:
        return None
    if x.dtype.char not in "fd" or x.dtype != out.dtype or out.shape != (1, x.shape[1]):
        return None
    if not x.flags.c_contiguous or not out.flags.c_contiguous or np.may_share_memory(x, out):
        return None
    job = words(arena.address(out), arena.address(x), *x.shape)
    return [_job(_adding(x.dtype)["add_rows"], job)]


def all_below(index: Array, n: int, raises: Callable[[], Any]) -> list[Call]:
    """Calls that raise unless all of an index are in 0 .. n - 1; none for what is not of int64."""
    if jit.mode() != "native" or index.dtype != np.int64 or not index.flags.c_contiguous:
        return []
    work = below_work(index, n)
    return [call(work), (Check(work.job, 0, raises), ())]


def _job(function: int, job: Array, *owned: Any) -> _Step:
    return _Step(2, function, (arena.address(job), 0), (job, *owned))


@cache
def _layout() -> Any:
    """The module of the compiled part: it needs Numba, which `import minigrad` does without."""
    from minigrad.kernels import replay

    return replay


@cache
def _kernel() -> Kernel:
    return build_from("replay", "replay", dict.fromkeys(("run", "nest", "copy"), ENTRY))


@cache
def _adding(dtype: np.dtype) -> Kernel:
    return build_from("add_rows", "replay", {"add_rows": ENTRY}, dtype)
