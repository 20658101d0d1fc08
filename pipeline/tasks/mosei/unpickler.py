"""Read pickles as data: only NumPy arrays and plain types are admitted."""

import math
import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NoReturn

import numpy as np

from pipeline.foundation.errors import Damaged, NotThere, unless_of_memory

LAST_CHARACTER = 0x10FFFF
UNFOLDED_BYTES_PER_BYTE = 8
"""Most bytes of arrays and byte strings that a pickle may unfold to, per byte of its own."""


def _latin1(text: str, encoding: str) -> bytes:
    """Encode text as Latin-1, as pickles of protocol 2 store byte strings; refuse other codecs."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the codec {encoding!r} is not admitted")
    return text.encode("latin1")


class _DataType:
    """Stands in for a pickled data type until an array takes it; has its name and byte order.

    NumPy trusts the state of a pickled data type. A forged state can have flags that turn
    arbitrary memory into array items, or dates without a unit, which kill the process.
    """

    def __init__(self, name: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch("[biufcSUO][0-9]{1,9}", name):
            raise pickle.UnpicklingError(f"the data type {name!r:.99} is not admitted")
        self._name, self._order = name, "="

    def __setstate__(self, state: Any) -> None:
        _, order, *parts = state
        if order not in ("<", ">", "|", "=") or any(part is not None for part in parts[:3]):
            raise pickle.UnpicklingError("a data type with parts is not admitted")
        self._order = order

    def plain(self, kinds: str) -> Any:
        """NumPy's data type, if it is of one of these kinds."""
        if self._name[0] not in kinds:
            raise pickle.UnpicklingError(f"the data type {self._name} is not admitted here")
        return np.dtype(self._order.replace("|", "=") + self._name)


class _Array(np.ndarray):
    """A pickled array: NumPy's own, except that its state is checked and can be set only once.

    NumPy allocates memory for the shape before it looks at the data. If the state is set a second
    time it frees the array's memory, even if something else still uses it.
    """

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if self.__dict__.setdefault("is_set", False):
            raise pickle.UnpicklingError("it sets an array twice")
        self.is_set = True
        plain = _plain(dtype, "biufcSUO")
        if type(data) is not (list if plain.kind == "O" else bytes):
            raise pickle.UnpicklingError(f"it makes an array of {type(data).__name__}")
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError(f"an array of shape {shape!r:.99}")
        items = len(data) if plain.kind == "O" else len(data) / max(plain.itemsize, 1)
        if math.prod(shape) != items:
            raise pickle.UnpicklingError(f"an array of shape {shape} has {items:g} items")
        checked: Any = (1, shape, plain, bool(fortran), data)
        super().__setstate__(checked)
        _check_text(self)


def _check_text(array: Any) -> Any:
    """Refuse text with code points that no character has; such strings crash Python."""
    if array.dtype.kind == "U" and array.size:
        flat = np.ascontiguousarray(array).reshape(-1)
        codes = flat.view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if codes.max() > LAST_CHARACTER:
            raise pickle.UnpicklingError("it has text of what are no characters")
    return array


class _ArrayType:
    """Stands in for NumPy's array type, which a pickle names but must not call."""


_ARRAY_TYPE = _ArrayType()


def _plain(dtype: Any, kinds: str) -> Any:
    if not isinstance(dtype, _DataType):
        raise pickle.UnpicklingError("a data type is wanted")
    return dtype.plain(kinds)


def _dtype(name: Any, *_: Any) -> _DataType:
    return _DataType(name)


def _reconstruct(kind: Any, *_: Any) -> Any:
    if kind is not _ARRAY_TYPE:
        raise pickle.UnpicklingError("it builds an array of another type")
    return _Array((0,), np.int8)


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_bytes(data, _plain(dtype, "biufcSU"))[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    return _from_bytes(data, _plain(dtype, "biufcSU")).reshape(shape, order=order)


def _from_bytes(data: Any, plain: Any) -> Any:
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"it makes an array of {type(data).__name__}")
    return _check_text(np.frombuffer(bytes(data), plain))


def _admitted() -> dict[tuple[str, str], Any]:
    admitted: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _ARRAY_TYPE,
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _latin1,
    }
    for core in ("numpy.core", "numpy._core"):
        admitted[f"{core}.multiarray", "_reconstruct"] = _reconstruct
        admitted[f"{core}.multiarray", "scalar"] = _scalar
        admitted[f"{core}.numeric", "_frombuffer"] = _frombuffer
    return admitted


class _Bounded:
    """A file from which no read asks for more than it has: an opcode may claim 2**63 bytes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, self._size + 1))

    def readline(self) -> bytes:
        return self._file.readline()


class DataUnpickler(pickle._Unpickler):
    """Admits NumPy arrays and plain types, but no class and no function.

    It is built on the implementation in Python, because the one in C allocates as many memo
    entries as an opcode of five bytes names, and lets any object's attributes be set.
    """

    admitted = _admitted()
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    pop_mark: Any  # items from the last mark on
    read: Any

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(_Bounded(file, size), encoding="latin1")
        self._size, self._allowance = size, UNFOLDED_BYTES_PER_BYTE * size

    def find_class(self, module: str, name: str) -> Any:
        """Look up a global that a pickle names.

        Raises:
            pickle.UnpicklingError: it is not one of those admitted.
        """
        try:
            return self.admitted[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None

    def _refuse(self) -> NoReturn:
        raise pickle.UnpicklingError("it has an opcode for objects that are no data")

    def _reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._count(self.stack[-1](*arguments))

    def _build(self) -> None:
        state = self.stack.pop()
        target: Any = self.stack[-1]
        if not isinstance(target, _Array | _DataType):
            self._refuse()
        target.__setstate__(state)
        self._count(target)

    def _count(self, value: Any) -> Any:
        """Return `value`, unless the file, which can name its bytes many times, unfolds too far."""
        self._allowance -= len(value) if isinstance(value, bytes) else getattr(value, "nbytes", 0)
        if self._allowance < 0:
            raise pickle.UnpicklingError("it unfolds to many times its size")
        return value

    def _bytes(self) -> None:
        count = int.from_bytes(self.read(8), "little")
        if count > self._size:
            raise pickle.UnpicklingError(f"it claims {count:,} bytes")
        self.stack.append(bytearray(self.read(count)))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set(items)

    def _set_item(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self._set(items)

    def _set_items(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        keys = items[::2]
        if not all(isinstance(key, str | bytes | int | float | None) for key in keys):
            # the hash of nested tuples can take forever
            raise pickle.UnpicklingError("a key is neither text nor number")
        target = self.stack[-1]
        if not isinstance(target, dict):
            self._refuse()
        target.update(zip(keys, items[1::2], strict=True))

    for code in (
        *(pickle.PERSID, pickle.BINPERSID, pickle.INST, pickle.OBJ, pickle.NEWOBJ),
        *(pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER),
        *(pickle.READONLY_BUFFER, pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS),
    ):
        dispatch[code[0]] = _refuse
    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.BYTEARRAY8[0]] = _bytes
    dispatch[pickle.DICT[0]] = _dict
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items


def read_pickle(path: Path) -> Any:
    """Read a pickle of arrays and plain types.

    Raises:
        SpeechkdError: the file is damaged, or asks for anything else.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            content = DataUnpickler(file, size).load()
        _check_tree(content, size)
        return content
    except FileNotFoundError:
        raise NotThere(f"{path}: there is no such file.") from None
    except Exception as error:  # a damaged pickle may fail in any way
        unless_of_memory(error)
        raise Damaged(
            f"{path} is refused as a pickle: {str(error)[:200] or type(error).__name__}. Only "
            "numpy arrays, text, numbers, lists and dictionaries are admitted; a table or the "
            ".csd files are safer sources."
        ) from error


def _check_tree(content: Any, most: int) -> None:
    """Refuse nested lists that name each other so often that walking them never ends."""
    items, open_parts = 0, [content]
    while open_parts:
        part = open_parts.pop()
        if isinstance(part, dict):
            inner: Iterable[Any] = part.values()
        elif isinstance(part, list | tuple):
            inner = part
        elif isinstance(part, np.ndarray) and part.dtype == object:
            inner = part.flat
        else:
            continue
        items += len(part) if isinstance(part, dict | list | tuple) else part.size
        if items > most:
            raise pickle.UnpicklingError("it names its parts so often that they cannot be walked")
        open_parts += [item for item in inner if isinstance(item, dict | list | tuple | np.ndarray)]
