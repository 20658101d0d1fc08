"""A CUDA device that is not there: numbers of the CPU, rules of CUDA.

Within `pretended()` a tensor that was sent to `cuda` says that it is there, while its numbers stay
in this machine's memory and the CPU computes. Operations that mix devices raise an error, and what
makes the host wait for the device is counted; both name the line of the project that did it.

A tensor is where its storage is, so views, parameters and tied weights need nothing special. Two
modes of torch watch: `_Operations` sees what torch's dispatcher runs, after composite operations
are taken apart; `_Calls` sees what Python asked for, because torch's own C++ cannot be told where
a tensor is, and asks for new tensors on the CPU while it works on tensors of the device.
"""

import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.multiprocessing.reductions
import torch.utils._device
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ROOT = Path(__file__).parents[2]
PROJECT = tuple(f"{ROOT / folder}/" for folder in ("pipeline", "stages", "bench"))
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
PRIVATE = {
    "torch._C._nn._parse_to": lambda: torch._C._nn._parse_to,
    "torch._C._group_tensors_by_device_and_dtype": (
        lambda: torch._C._group_tensors_by_device_and_dtype
    ),
    "torch.multiprocessing.reductions.StorageWeakRef": (
        lambda: torch.multiprocessing.reductions.StorageWeakRef
    ),
}
"""What this leans on that torch does not promise to keep."""

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default: "a number is read (item, int, float, bool)",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.unique_consecutive.default: "unique_consecutive",
    aten.equal.default: "equal",
    aten.bincount.default: "bincount",
    aten.repeat_interleave.Tensor: "repeat_interleave without output_size",
}
"""Operations whose CUDA kernels read a size or a number back."""
COPIES = {aten.copy_.default, aten._to_copy.default}
INDEXING = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
_WIDENED = """
layer_norm group_norm softmax log_softmax cross_entropy nll_loss softplus mse_loss l1_loss
smooth_l1_loss binary_cross_entropy_with_logits exp log log10 log2 log1p pow __pow__ __rpow__ rsqrt
reciprocal norm sum prod cumsum cumprod cosine_similarity logsumexp kl_div cdist
"""
WIDENED = frozenset(_WIDENED.split())
"""Calls that CUDA's autocast runs in float32 (aten/src/ATen/autocast_mode.h), unlike the CPU's."""


def missing() -> list[str]:
    """Names of what this torch lacks; the device cannot be pretended without them."""
    absent = []
    for name, find in PRIVATE.items():
        try:
            find()
        except AttributeError:
            absent.append(name)
    return absent


class Storages:
    """A set of tensors' storages, each for as long as it lives."""

    def __init__(self) -> None:
        self._references: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __contains__(self, tensor: Tensor) -> bool:
        try:
            # a reference keeps the storage's address from being used again
            return tensor.untyped_storage()._cdata in self._references
        except (RuntimeError, NotImplementedError):  # no storage: fake, sparse
            return False

    def add(self, tensor: Tensor) -> Tensor:
        """Add a tensor's storage and return the tensor."""
        if tensor not in self:
            storage = tensor.untyped_storage()
            reference = torch.multiprocessing.reductions.StorageWeakRef(storage)
            with self._lock:
                self._references[storage._cdata] = reference
                if len(self._references) > 20_000:
                    alive = {k: r for k, r in self._references.items() if not r.expired()}
                    self._references = alive
        return tensor

    def clear(self) -> None:
        """Forget all."""
        self._references = {}


class Ledger:
    """Host waits so far, by what waited and the line of the project that asked for it."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()

    def wait(self, what: str) -> None:
        """Count one wait."""
        self.waits[f"{where_in_the_project()}: {what}"] += 1

    def waits_by_step(self) -> "contextlib.AbstractContextManager[list[Counter[str]]]":
        """While the block runs, collect the waits between one optimiser step and the next."""
        return _waits_by_step(self)


@contextlib.contextmanager
def _waits_by_step(ledger: Ledger) -> Iterator[list[Counter[str]]]:
    steps: list[Counter[str]] = []
    before: list[Counter[str]] = []

    def mark(*_: Any) -> None:
        if before:
            steps.append(ledger.waits - before.pop())
        before.append(Counter(ledger.waits))

    handle = register_optimizer_step_pre_hook(mark)
    try:
        yield steps
    finally:
        handle.remove()


_on_device, _pinned = Storages(), Storages()
_ledger = Ledger()


class _Thread(threading.local):
    """What this thread is in the middle of."""

    aside = False
    """The device itself is at work: nothing is checked."""
    widens = False
    """CUDA's autocast is on."""
    new: tuple[torch.device | None, ...] = ()
    """For each call of Python's, the innermost last: where tensors that it makes are."""


_thread = _Thread()


def where_in_the_project() -> str:
    """File and line of the innermost frame that is the project's own."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PROJECT):
            return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "outside the project"


def on_device(tensor: Tensor) -> bool:
    """Whether a tensor was sent to the pretended device."""
    return tensor in _on_device


def mixed(operation: object, tensors: list[Tensor]) -> RuntimeError:
    """CUDA's error for tensors of two devices, with the line of the project."""
    told = ", ".join(f"{list(t.shape)} on {'cuda:0' if on_device(t) else 'cpu'}" for t in tensors)
    return RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 "
        f"and cpu! {where_in_the_project()}: {operation} of {told}"
    )


# ---- what torch's dispatcher runs


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if _thread.aside:
            return func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        device = kwargs.get("device")
        if device is not None and device.type == "cuda":
            kwargs["device"] = CPU
        pins = kwargs.pop("pin_memory", None)
        anywhere = any(map(on_device, tensors))
        if anywhere:
            self._check(func, args, kwargs, tensors)
        asked = _thread.new[-1] if _thread.new else None
        if device is not None or not tensors:  # makes a tensor: C++ would have it on the CPU
            place = asked or device or CPU
        else:
            place = CUDA if anywhere else CPU
        out = func(*args, **kwargs)
        written = _written(func, args, kwargs)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and not any(tensor is other for other in written):
                if place.type == "cuda":
                    _on_device.add(tensor)
                if pins:
                    _pinned.add(tensor)
        return out

    @staticmethod
    def _check(
        func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[Tensor]
    ) -> None:
        """Raise what CUDA raises for these devices; count a wait."""
        if func in COPIES:
            if func is aten.copy_.default and on_device(args[0]) != on_device(args[1]):
                _crossed(args[1], CUDA if on_device(args[0]) else CPU, bool(args[2:] and args[2]))
            return
        if func in WAITS and kwargs.get("output_size") is None:
            _ledger.wait(WAITS[func])
        if func in INDEXING:
            indices = [index for index in args[1] if index is not None]
            if not on_device(args[0]):
                raise mixed(func, [args[0], *indices])
            for index in indices:
                if not on_device(index):
                    _ledger.wait("an index is copied from the CPU")
                if index.dtype in (torch.bool, torch.uint8):
                    _ledger.wait("a mask is an index (nonzero)")
            tensors = [args[0], *args[2:3]]
        written = _written(func, args, kwargs)
        for tensor in tensors:
            # CUDA takes a CPU tensor without dimensions where a number would do
            number = tensor.dim() == 0 and "_fused_adam" not in str(func)
            if not on_device(tensor) and (not number or any(tensor is other for other in written)):
                raise mixed(func, tensors)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors that an operation changes in place."""
    values = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            values.append(args[place] if place < len(args) else kwargs.get(argument.name))
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


# ---- what Python asks of torch


class _Calls(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        leaves = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        device = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        place = device or (CUDA if any(map(on_device, leaves)) else None)
        source = kwargs.get("generator")
        if source is not None and source.device.type != (place or CPU).type:
            raise RuntimeError(
                f"Expected a '{(place or CPU).type}' device type for generator but found "
                f"'{source.device.type}'. {where_in_the_project()}: {name}"
            )
        if _thread.widens and name in WIDENED:
            args, kwargs = tree_map(_widened, (args, kwargs))
        with _making(place):
            return func(*args, **kwargs)


@contextlib.contextmanager
def _making(place: torch.device | None) -> Iterator[None]:
    """While the block runs, tensors that torch makes of its own accord are there."""
    before, _thread.new = _thread.new, (*_thread.new, place)
    try:
        yield
    finally:
        _thread.new = before


def _going_back(run: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.autograd.backward` and `grad`, which the mode is not told of."""

    def wrapped(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        leaves = [x for x in tree_leaves(tensors) if isinstance(x, Tensor)]
        with _making(CUDA if any(map(on_device, leaves)) else None):
            return run(tensors, *args, **kwargs)

    return wrapped


def _widened(value: Any) -> Any:
    half = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return _original.to(value, torch.float32) if half and on_device(value) else value


class _Autocast(torch.autocast):
    """CUDA's autocast as the CPU's, with CUDA's list of what stays float32."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        self._widens = device_type == "cuda"
        super().__init__("cpu" if self._widens else device_type, *args, **kwargs)

    def __enter__(self) -> Any:
        self._before, _thread.widens = _thread.widens, self._widens and self._enabled
        return super().__enter__()

    def __exit__(self, *error: Any) -> Any:
        _thread.widens = self._before
        return super().__exit__(*error)


class _Generator(torch._C.Generator):
    """A source of the CPU's random numbers that says which device it is for."""

    _named: torch.device

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        source = super().__new__(cls, "cpu")
        source._named = torch.device(device)
        return source

    @property
    def device(self) -> torch.device:
        """The device that it was made for."""
        return CUDA if self._named.type == "cuda" else CPU


class _Event:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def record(self, *_: Any) -> None: ...

    def wait(self, *_: Any) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, _: Any) -> float:
        return 0.0

    def synchronize(self) -> None:
        _ledger.wait("an event is waited for")


class _Stream:
    def __init__(self, *_: Any, **__: Any) -> None: ...

    def wait_stream(self, *_: Any) -> None: ...

    def wait_event(self, *_: Any) -> None: ...

    def record_event(self, *_: Any) -> _Event:
        return _Event()

    def is_capturing(self) -> bool:
        return False

    def synchronize(self) -> None:
        _ledger.wait("a stream is waited for")


# ---- methods of tensors that cross between devices, or tell where they are

_original = SimpleNamespace(
    device=Tensor.device,
    to=Tensor.to,
    numpy=Tensor.numpy,
    array=Tensor.__array__,
    tolist=Tensor.tolist,
    deepcopy=Tensor.__deepcopy__,
    tensor=torch.tensor,
    as_tensor=torch.as_tensor,
    backward=torch.autograd.backward,
    grad=torch.autograd.grad,
    group=torch._C._group_tensors_by_device_and_dtype if not missing() else None,
)


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    before, _thread.aside = _thread.aside, True
    try:
        yield
    finally:
        _thread.aside = before


def _device_of(tensor: Tensor) -> torch.device:
    real: torch.device = _original.device.__get__(tensor)
    return CUDA if real.type == "cpu" and on_device(tensor) else real


def _crossed(source: Tensor, to: torch.device, non_blocking: bool) -> None:
    """Count the wait of a copy between devices, if it has one.

    A copy that need not be waited for is none. From memory that is not pinned CUDA stages it first,
    which for the small copies of a step does not wait for kernels.
    """
    if not non_blocking:
        _ledger.wait("a copy to the device" if to.type == "cuda" else "a copy from the device")


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if args and isinstance(args[0], Tensor):
        args = (args[0].device, args[0].dtype, *args[1:])
    copy = kwargs.pop("copy", False)
    device, dtype, non_blocking, layout = torch._C._nn._parse_to(*args, **kwargs)
    here = _device_of(tensor)
    there = here if device is None else device
    if {here.type, there.type} - {"cpu", "cuda"}:
        return _original.to(tensor, *args, copy=copy, **kwargs)
    words = {} if layout is None else {"memory_format": layout}
    if there.type == here.type:
        return _original.to(tensor, dtype=dtype or tensor.dtype, copy=copy, **words)
    _crossed(tensor, there, non_blocking)
    with _aside():
        moved: Tensor = _original.to(tensor, dtype=dtype or tensor.dtype, copy=True, **words)
    return _on_device.add(moved) if there.type == "cuda" else moved


def _pin_memory(tensor: Tensor, *_: Any) -> Tensor:
    if on_device(tensor):
        raise RuntimeError(f"cannot pin a tensor of cuda:0. {where_in_the_project()}")
    with _aside():
        return _pinned.add(tensor.detach().clone())


def _made_of(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor` and `torch.as_tensor`: made on the CPU, and sent to the device asked for."""

    def wrapped(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        out = make(data, *args, **kwargs)
        return out if device is None else _to(out, torch.device(device))

    return wrapped


def _for_the_cpu_alone(convert: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if on_device(tensor):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the "
                f"tensor to host memory first. {where_in_the_project()}"
            )
        return convert(tensor, *args, **kwargs)

    return wrapped


def _tolist(tensor: Tensor) -> Any:
    if on_device(tensor) and not _thread.aside:  # the original calls its replacement
        _ledger.wait("tolist")
    with _aside():
        return _original.tolist(tensor)


def _deepcopy(tensor: Tensor, memo: Any) -> Tensor:
    out: Tensor = _original.deepcopy(tensor, memo)
    return _on_device.add(out) if on_device(tensor) else out


def _group(lists: Any, with_indices: bool = False) -> Any:
    """Optimisers and the clipping of gradients ask C++ to group tensors by their device."""
    groups = _original.group(lists, with_indices)
    return {
        (_device_of(next(x for xs in value[0] for x in xs if x is not None)), key[1]): value
        for key, value in groups.items()
    }


def _replacements(name: str, free: int) -> list[tuple[Any, str, Any]]:
    properties = SimpleNamespace(
        name=name, major=9, minor=0, total_memory=2 * free, multi_processor_count=132
    )
    return [
        (Tensor, "device", property(_device_of)),
        (Tensor, "is_cuda", property(on_device)),
        (Tensor, "is_cpu", property(lambda t: _device_of(t).type == "cpu")),
        (Tensor, "get_device", lambda t: 0 if on_device(t) else -1),
        (Tensor, "to", _to),
        (Tensor, "cpu", lambda t, **__: _to(t, CPU)),
        (Tensor, "cuda", lambda t, *_, **k: _to(t, CUDA, **k)),
        (Tensor, "pin_memory", _pin_memory),
        (Tensor, "is_pinned", lambda t, *_: t in _pinned),
        (Tensor, "record_stream", lambda *_: None),
        (Tensor, "numpy", _for_the_cpu_alone(_original.numpy)),
        (Tensor, "__array__", _for_the_cpu_alone(_original.array)),
        (Tensor, "tolist", _tolist),
        (Tensor, "__deepcopy__", _deepcopy),
        (torch._C, "_group_tensors_by_device_and_dtype", _group),
        (torch, "tensor", _made_of(_original.tensor)),
        (torch, "as_tensor", _made_of(_original.as_tensor)),
        (torch.autograd, "backward", _going_back(_original.backward)),
        (torch.autograd, "grad", _going_back(_original.grad)),
        (torch, "Generator", _Generator),
        (torch, "autocast", _Autocast),
        *(
            (torch.cuda, key, value)
            for key, value in {
                "is_available": lambda: True,
                "is_initialized": lambda: True,
                "_lazy_init": lambda: None,
                "device_count": lambda: 1,
                "current_device": lambda: 0,
                "set_device": lambda _: None,
                "device": lambda _: contextlib.nullcontext(),
                "get_device_name": lambda *_: name,
                "get_device_properties": lambda *_: properties,
                "get_device_capability": lambda *_: (9, 0),
                "is_bf16_supported": lambda *_, **__: True,
                "mem_get_info": lambda *_: (free, 2 * free),
                "synchronize": lambda *_: _ledger.wait("the device is waited for"),
                "Event": _Event,
                "Stream": _Stream,
                "current_stream": lambda *_: _Stream(),
                "stream": lambda _: contextlib.nullcontext(),
                "manual_seed": lambda _: None,
                "manual_seed_all": lambda _: None,
                "get_rng_state": lambda *_: torch.get_rng_state(),
                "set_rng_state": lambda *_: None,
                "is_current_stream_capturing": lambda: False,
            }.items()
        ),
        *(
            (torch.accelerator, key, value)
            for key, value in {
                "is_available": lambda: True,
                "device_count": lambda: 1,
                "current_accelerator": lambda *_, **__: torch.device("cuda"),
                "current_device_index": lambda: 0,
                "set_device_index": lambda _: None,
                "current_stream": lambda *_: _Stream(),
            }.items()
        ),
    ]


@contextlib.contextmanager
def pretended(name: str = "NVIDIA H100 80GB HBM3", free: int = 8 * 10**9) -> Iterator[Ledger]:
    """While the block runs there is one CUDA device.

    Args:
        name: what the device calls itself.
        free: bytes of its memory that are free.

    Yields:
        The waits of the host.
    """
    absent = object()
    replacements = _replacements(name, free)
    before = [(owner, key, vars(owner).get(key, absent)) for owner, key, _ in replacements]
    _ledger.waits.clear()
    # torch lists once what `with torch.device(…)` acts on: it must be its own functions, not these
    getattr(torch.utils._device, "_device_constructors", list)()
    try:
        for owner, key, value in replacements:
            setattr(owner, key, value)
        with _Operations(), _Calls():
            yield _ledger
    finally:
        for owner, key, value in before:
            if value is absent:
                delattr(owner, key)
            else:
                setattr(owner, key, value)
        _on_device.clear()
        _pinned.clear()
