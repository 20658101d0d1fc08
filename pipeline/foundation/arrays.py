"""The type of every NumPy array whose shape a name or a docstring tells."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
