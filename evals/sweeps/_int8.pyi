from typing import Any

from numpy.typing import NDArray

def sets() -> dict[str, int]: ...
def pack(
    rows: NDArray[Any],
    itemsize: int,
    n: int,
    d: int,
    codes: tuple[Any, ...],
    at: int,
    centre: NDArray[Any],
    metric: int,
    scale: float,
    /,
) -> int: ...
def sweep(
    left: tuple[Any, ...],
    right: tuple[Any, ...],
    d: int,
    quads: int,
    metric: int,
    same: bool,
    unit: float,
    instructions: int,
    first_left: int,
    last_left: int,
    first_right: int,
    last_right: int,
    triangle: bool,
    /,
) -> None: ...
def will_need(array: NDArray[Any], /) -> None: ...
