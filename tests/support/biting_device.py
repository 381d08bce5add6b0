"""A device that behaves like a GPU without being one: what only a GPU would punish fails or is
counted on a machine without any.

Within `biting()` tensors can be put on `DEVICE`, by every way that torch has. Their numbers lie on
the host, and code can only get at them as on a GPU: `numpy()` and what NumPy does by itself are
refused, so is an operation on tensors of both sides, but for numbers of no dimension where CUDA
takes those. `bool()` is refused too: a GPU would answer, and whoever asks has forgotten what it
costs. Counted are, with the function and line of refdepth that did it: uploads, reads, and the
operations that wait for a GPU because the size of their result depends on numbers.

The device calls itself `meta`, for which torch needs no driver. What runs is torch's own CPU code,
so that results equal those of plain tensors to the bit.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
DEVICE = torch.device("meta")
HOST = torch.device("cpu")
PACKAGE = "/refdepth/"
HELPERS = ("/refdepth/arrays.py", "/tests/")
"""Whoever calls these did it."""

READS = {aten._local_scalar_dense.default}
WAITS = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten.repeat_interleave.Tensor,
    aten._unique.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
    aten.equal.default,
    aten.nanmedian.default,  # counts what is not NaN on the host; along a dimension it does not
}
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
TAKES_NUMBERS = {aten.where.self, aten.masked_fill.Tensor, aten.masked_fill_.Tensor}
TAKES_NUMBERS |= {aten.fill_.Tensor, aten.fill.Tensor, aten.copy_.default, *INDEXING}
"""Beside the operations pixel by pixel: those that take a number of the host's as well."""
REFUSED = {
    torch.Tensor.numpy: "can't convert a tensor of the biting device to numpy",
    torch.Tensor.__array__: "can't convert a tensor of the biting device to numpy",
    torch.Tensor.__dlpack__: "a tensor of the biting device is not shared with the host",
    torch.Tensor.__bool__: "a branch on a tensor of the biting device waits for it",
    torch.Tensor.data_ptr: "the host cannot follow pointers of the biting device",
}
MAKERS = {torch.tensor, torch.as_tensor, torch.asarray}
SPECIAL = {*REFUSED, *MAKERS, torch.Tensor.tolist, torch.Tensor.new_tensor}


@dataclass(frozen=True)
class Event:
    """One upload, read or wait."""

    kind: str
    """upload, read or wait. An upload that blocks is a wait too."""
    function: str
    """Who did it: file and function within refdepth."""
    line: int
    what: str
    """The operation, and what it moved."""


@dataclass
class Watch:
    """What happened on the device."""

    events: list[Event] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    """How often each was started."""
    counting: bool = True

    def note(self, kind: str, what: str) -> None:
        """Enters an event where it happens."""
        if self.counting:
            function, line = _caller()
            self.events.append(Event(kind, function, line, what))

    def clear(self) -> None:
        """Forgets all so far."""
        self.events.clear()
        self.operations.clear()

    @property
    def waits(self) -> Counter[str]:
        """How often each function of refdepth had to wait for numbers of the device."""
        return Counter(event.function for event in self.events if event.kind != "upload")

    @property
    def uploads(self) -> Counter[str]:
        """How often each function of refdepth put something on the device."""
        return Counter(event.function for event in self.events if event.kind == "upload")

    def text(self) -> str:
        """All events by place, for reading."""
        counts = Counter((e.kind, f"{e.function}:{e.line}", e.what) for e in self.events)
        return "\n".join(f"{n:4} {' '.join(key)}" for key, n in sorted(counts.items()))


_watches: list[Watch] = []


@contextmanager
def biting() -> Iterator[Watch]:
    """A machine that has the device."""
    watch = Watch()
    _watches.append(watch)
    try:
        with _Factories(), _Operations():
            yield watch
    finally:
        _watches.pop()


@contextmanager
def aside() -> Iterator[None]:
    """What is done within is not counted: it is done by nobody who is tested."""
    watch = _watches[-1] if _watches else Watch()
    before, watch.counting = watch.counting, False
    try:
        yield
    finally:
        watch.counting = before


def wait_for(what: str) -> None:
    """Counts a wait of other software that runs on the device."""
    if _watches:
        _watches[-1].note("wait", what)


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor, wherever it is, as a tensor of the host that shares them."""
    return tensor.numbers if isinstance(tensor, _Biting) else tensor


def on_device(numbers: torch.Tensor) -> torch.Tensor:
    """A tensor of the device with these numbers."""
    return _Biting(numbers)


class _Biting(torch.Tensor):
    """A tensor on the device."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            layout=numbers.layout,
            device=DEVICE,
        )
        made.numbers = numbers
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def __repr__(self):
        return f"biting {self.numbers!r}"


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Factories(TorchFunctionMode):
    """What torch makes on the host before it goes to a device, and what is refused."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in SPECIAL:
            return func(*args, **kwargs)
        kwargs = dict(kwargs)
        if func in REFUSED and isinstance(args[0], _Biting):
            raise TypeError(f"{REFUSED[func]}, at {_place()}")
        if func is torch.Tensor.tolist and isinstance(args[0], _Biting):
            return args[0].to(HOST).tolist()
        if func is torch.Tensor.new_tensor and isinstance(args[0], _Biting):
            kind = kwargs.get("dtype") or args[0].dtype
            return torch.tensor(args[1], dtype=kind).to(kwargs.get("device") or DEVICE)
        if func not in MAKERS:
            return func(*args, **kwargs)
        given = args[0] if args else kwargs.get("data")
        device = kwargs.pop("device", None)
        if isinstance(given, _Biting):
            return given.to(device or DEVICE, kwargs.get("dtype") or given.dtype)
        made = func(*args, **kwargs)
        return made if device is None else made.to(device)


def _run(func, args, kwargs):
    """An operation of torch, on whichever side its tensors are."""
    tensors = [*_tensors(args), *_tensors(kwargs.values())]
    ours = [tensor for tensor in tensors if isinstance(tensor, _Biting)]
    theirs = [tensor for tensor in tensors if not isinstance(tensor, _Biting)]
    named = kwargs.get("device")
    device = None if named is None else torch.device(named)
    if not ours and device != DEVICE:
        return func(*args, **kwargs)
    watch = _watches[-1] if _watches else Watch()
    if watch.counting:
        watch.operations[str(func)] += 1
    _check_sides(func, ours, theirs)
    _count(watch, func, args, kwargs, device)
    given = dict(kwargs) if device is None else {**kwargs, "device": HOST}
    found = func(*map(_numbers, args), **{key: _numbers(value) for key, value in given.items()})
    if device is not None and device != DEVICE:
        return found
    known = {id(on_host(tensor)): tensor for tensor in tensors}
    if isinstance(found, (tuple, list)):
        return type(found)(_wrapped(value, known) for value in found)
    return _wrapped(found, known)


def _tensors(values):
    """The tensors among an operation's arguments, and in the lists among these."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (one for one in value if isinstance(one, torch.Tensor))


def _numbers(value):
    if isinstance(value, (list, tuple)):
        return [one.numbers if isinstance(one, _Biting) else one for one in value]
    return value.numbers if isinstance(value, _Biting) else value


def _wrapped(value, known):
    if not isinstance(value, torch.Tensor):
        return value
    return known[id(value)] if id(value) in known else on_device(value)


def _check_sides(func, ours, theirs) -> None:
    """Raises `RuntimeError` for what CUDA refuses."""
    if not ours or not theirs:
        return
    numbers = all(tensor.ndim == 0 for tensor in theirs)
    if numbers and (torch.Tag.pointwise in func.tags or func in TAKES_NUMBERS):
        return
    if func in (aten._to_copy.default, aten.copy_.default):
        return
    if func in INDEXING and not any(tensor.is_floating_point() for tensor in theirs):
        return  # places may be the host's
    raise RuntimeError(
        f"expected all tensors to be on the same device, but {func} got some on the biting device "
        f"and some on the host, at {_place()}"
    )


def _count(watch, func, args, kwargs, device) -> None:
    if func is aten._to_copy.default:
        if not isinstance(args[0], _Biting):
            watch.note("upload", _described(args[0]))
            if not kwargs.get("non_blocking"):
                watch.note("wait", f"upload of {_described(args[0])}")
        elif device is not None and device != DEVICE:
            watch.note("read", _described(args[0]))
    elif func is aten.copy_.default and isinstance(args[0], _Biting) != isinstance(
        args[1], _Biting
    ):
        watch.note("upload" if isinstance(args[0], _Biting) else "read", _described(args[1]))
    elif func in READS:
        watch.note("read", "a number")
    elif func in WAITS and kwargs.get("output_size") is None:
        watch.note("wait", func.name())
    elif func in INDEXING:
        places = [place for place in args[1] if place is not None]
        masks = any(place.dtype in (torch.bool, torch.uint8) for place in places)
        one_number = func is not aten.index.Tensor and args[2].numel() == 1  # is masked_fill
        if masks and not one_number:
            watch.note("wait", f"{func.name()} with a mask")
        for place in places:
            if not isinstance(place, _Biting):
                watch.note("upload", f"places {_described(place)}")


def _described(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _place() -> str:
    function, line = _caller()
    return f"{function}, line {line}"


def _caller() -> tuple[str, int]:
    """The innermost function of refdepth at work, and its line."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if PACKAGE in name and not any(helper in name for helper in HELPERS):
            within = name.rsplit(PACKAGE, 1)[1]
            return f"{within} {frame.f_code.co_qualname}", frame.f_lineno
        frame = frame.f_back
    return "outside", 0
