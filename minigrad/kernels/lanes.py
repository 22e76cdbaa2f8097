"""Numba side: vectors from and to arrays of any length and step, for kernel sources.

    p = repeated(p, step, V)                 before the loop, for operands that may be broadcast
    for i in range(0, n, 16):
        x = load_lanes(p, i, step, n - i, V)
        store_lanes(q, i, step, n - i, x)

Whole contiguous vectors and broadcast numbers go the fast way, as one instruction. Remainders and
strided operands go through one function a kernel, by masked loads and gathers.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from minigrad.kernels.memory import CHECKED, alignment, bounded, pointer, raw, reach
from minigrad.kernels.simd import Mask, Vec, splat
from minigrad.kernels.values import I1, I8, I32, I64


@intrinsic
def repeated(typing, p, step, kind):
    """`p`, or where the step is 0 a vector on the stack in which the number at `p` is repeated."""
    element = kind.instance_type

    def generate(context, builder, signature, args):
        p, step, _ = args
        data = context.get_data_type(element)
        own = builder.bitcast(cgutils.alloca_once(builder, data), I8.as_pointer())
        still = builder.icmp_signed("==", step, I64(0))
        with builder.if_then(still):
            place = reach(context, builder, p, I64(0), I64(alignment(data)))
            one = builder.load(builder.bitcast(place, data.element.as_pointer()))
            builder.store(splat(builder, one, data.count), builder.bitcast(own, data.as_pointer()))
        size = context.get_abi_sizeof(data)
        return builder.select(still, bounded(context, builder, own, size), p)

    _check_lanes(p, element)
    return p(p, types.intp, kind), generate


@intrinsic
def load_lanes(typing, p, index, step, count, kind):
    """Elements index, index + 1, ... of an array at `p`, `step` bytes apart.

    `count` are left from there on; lanes beyond them are 0. A step of 0 stands for one vector, of
    which all lanes are taken (see `repeated`).
    """
    element = kind.instance_type

    def generate(context, builder, signature, args):
        p, index, step, count, _ = args
        data = context.get_data_type(element)
        place, full = _reach_lanes(context, builder, p, index, step, count, data)
        full = builder.or_(full, builder.icmp_signed("==", step, I64(0)))
        found = []
        with builder.if_else(full, likely=True) as (fast, slow):
            with fast:
                whole = builder.load(builder.bitcast(place, data.as_pointer()))
                whole.align = alignment(data)
                found.append((whole, builder.block))
            with slow:
                gathered = builder.call(_gather(builder.module, data), [place, step, count])
                found.append((gathered, builder.block))
        phi = builder.phi(data)
        for value, block in found:
            phi.add_incoming(value, block)
        return context.data_model_manager[element].from_data(builder, phi)

    _check_lanes(p, element)
    return element(p, types.intp, types.intp, types.intp, kind), generate


@intrinsic
def store_lanes(typing, p, index, step, count, value):
    """Write the first `count` lanes, or all, to elements index, index + 1, ... of an array."""

    def generate(context, builder, signature, args):
        p, index, step, count, value = args
        value = context.data_model_manager[signature.args[4]].as_data(builder, value)
        place, full = _reach_lanes(context, builder, p, index, step, count, value.type)
        with builder.if_else(full, likely=True) as (fast, slow):
            with fast:
                whole = builder.store(value, builder.bitcast(place, value.type.as_pointer()))
                whole.align = alignment(value.type)
            with slow:
                builder.call(_scatter(builder.module, value.type), [place, step, count, value])
        return context.get_dummy_value()

    _check_lanes(p, value)
    return types.void(p, types.intp, types.intp, types.intp, value), generate


def _check_lanes(p, element):
    if p != pointer or not isinstance(element, (Vec, Mask)):
        raise TypingError(f"expected a Pointer and a Vec or Mask, came {p} and {element}")


def _reach_lanes(context, builder, p, index, step, count, data):
    """(machine pointer of the first lane, whether all lanes are there and contiguous)."""
    size = I64(alignment(data))
    offset = builder.mul(index, step)
    whole = builder.icmp_signed(">=", count, I64(data.count))
    full = builder.and_(whole, builder.icmp_signed("==", step, size))
    if CHECKED:
        last = builder.sub(builder.select(whole, I64(data.count), count), I64(1))
        reached = builder.add(offset, builder.mul(step, last))
        down = builder.icmp_signed("<", step, I64(0))
        low, high = builder.select(down, reached, offset), builder.select(down, offset, reached)
        reach(context, builder, p, low, builder.add(builder.sub(high, low), size))
        p = raw(context, builder, pointer, p)
    return builder.gep(p, [offset], source_etype=I8), full


def _gather(module, data):
    """The function that loads lanes from places `step` bytes apart, and 0 from `count` on."""
    kind = ir.FunctionType(data, [I8.as_pointer(), I64, I64])
    builder, function = _lane_function(module, kind, f"gather.{data.element}.{data.count}")
    if builder:
        place, step, count = function.args
        places, here = _lane_places(builder, place, step, count, data.count)
        size = alignment(data)
        with builder.if_then(builder.icmp_signed("==", step, I64(size))):
            load = _masked(module, "load", data, data.as_pointer(), data)
            start = builder.bitcast(place, data.as_pointer())
            builder.ret(builder.call(load, [start, I32(size), here, data(None)]))
        gather = _masked(module, "gather", data, places.type, data)
        builder.ret(builder.call(gather, [places, I32(size), here, data(None)]))
    return function


def _scatter(module, data):
    """The function that stores the first `count` lanes to places `step` bytes apart."""
    kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer(), I64, I64, data])
    builder, function = _lane_function(module, kind, f"scatter.{data.element}.{data.count}")
    if builder:
        place, step, count, value = function.args
        places, here = _lane_places(builder, place, step, count, data.count)
        size = alignment(data)
        with builder.if_then(builder.icmp_signed("==", step, I64(size))):
            store = _masked(module, "store", data, data.as_pointer())
            start = builder.bitcast(place, data.as_pointer())
            builder.call(store, [value, start, I32(size), here])
            builder.ret_void()
        scatter = _masked(module, "scatter", data, places.type)
        builder.call(scatter, [value, places, I32(size), here])
        builder.ret_void()
    return function


def _lane_function(module, kind, name):
    """(builder of its body, function), once per module; then (None, function)."""
    if name in module.globals:
        return None, module.globals[name]
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("noinline")  # it is the rare way
    return ir.IRBuilder(function.append_basic_block()), function


def _lane_places(builder, place, step, count, lanes):
    """(addresses of the lanes, which lanes there are)."""
    number = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    first = splat(builder, builder.ptrtoint(place, I64), lanes)
    addresses = builder.add(first, builder.mul(number, splat(builder, step, lanes)))
    places = builder.inttoptr(addresses, ir.VectorType(I8.as_pointer(), lanes))
    return places, builder.icmp_signed("<", number, splat(builder, count, lanes))


def _masked(module, what, data, place, result=None):
    """LLVM's masked load, gather (which return `result`), store or scatter."""
    element = {"float": "f32", "double": "f64", "i8": "i8"}[str(data.element)]
    mask = ir.VectorType(I1, data.count)
    if result is None:
        kind = ir.FunctionType(ir.VoidType(), [data, place, I32, mask])
    else:
        kind = ir.FunctionType(result, [place, I32, mask, data])
    pointers = "p0" if what in ("load", "store") else f"v{data.count}p0"
    name = f"llvm.masked.{what}.v{data.count}{element}.{pointers}"
    return cgutils.get_or_insert_function(module, kind, name)
