"""What a run would cost on other devices, from the arithmetic of its networks: an estimate.

One input goes through the network here; its multiplications and additions, and the most numbers
that are in use at once, are counted while it does. All else is assumed, and `ASSUMED` says what.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from model_zoo import Encoder
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.workload import UnitForecast

SHARE = 0.3  # of a device's peak that a network reaches
CORES = 8  # that read images for one device
_SPARE = 1.5  # times the memory counted: the driver's, the library's, what is not released at once


class Device(NamedTuple):
    """A kind of accelerator, by its maker's data sheet."""

    memory: int
    """GB."""
    half: float
    """TFLOP/s in bfloat16 or float16, dense, summed in float32."""
    single: float
    """TFLOP/s in float32."""


DEVICES = {
    "H200": Device(141, 989, 67),
    "H100": Device(80, 989, 67),
    "A100": Device(80, 312, 19.5),
    "L40S": Device(48, 362, 91.6),
    "L4": Device(24, 121, 30.3),
    "A10": Device(24, 125, 31.2),
    "V100": Device(32, 125, 15.7),
    "T4": Device(16, 65, 8.1),
    "RTX4090": Device(24, 165, 82.6),
    "RTX3090": Device(24, 71, 35.6),
}

ASSUMED = (
    f"a network reaches {SHARE:.0%} of the data sheet's peak, in bfloat16 or float16 unless "
    f"--dtype float32 is given; {CORES} cores a device read images meanwhile, each as fast as one "
    "here; results are shared out by model and task, longest first; probes take the "
    f"stated rates; memory is that of the weights and of one batch, times {_SPARE}"
)


class Work(NamedTuple):
    """Of a network, for one input."""

    flops: int
    """Multiplications and additions."""
    activations: int
    """Numbers that are in use at once, at most, weights left out."""
    parameters: int
    batch: int
    """Inputs that are encoded at once."""
    reading: float
    """Seconds of decoding, corrupting and resizing it, on one core here."""


class Placed(NamedTuple):
    """A model on a device."""

    model: str
    gigaflops: float
    """Of one input."""
    encoding: float
    """Seconds for all that is to be encoded, on one device."""
    reading: float
    """Seconds of reading it meanwhile."""
    memory: float
    """GB of a batch."""
    fits: bool


class Fleet(NamedTuple):
    """Devices of one kind, and what a run would cost on them."""

    number: int
    name: str
    models: list[Placed]
    seconds: float
    """Until the last device is done."""


def parse(text: str) -> tuple[int, str]:
    """Number and kind of devices, of "8xH100" or "H100".

    Raises:
        UserError: it is not that.
    """
    count, _, name = text.partition("x") if text[:1].isdigit() else ("1", "", text)
    known = {key.lower(): key for key in DEVICES}
    if not count.isdecimal() or int(count) < 1 or name.lower() not in known:
        raise UserError(
            f"--devices {text} is not known; write 8xH100, with one of {', '.join(DEVICES)}"
        )
    return int(count), known[name.lower()]


def counted(encoder: Encoder, inputs: Tensor, reading: float) -> Work:
    """What a network does for one prepared input, the first of `inputs` [B, ...].

    Args:
        encoder: in any dtype.
        inputs: prepared.
        reading: see `Work`.
    """
    live = _Live()
    with FlopCounterMode(display=False) as arithmetic, live:
        encoder.encode_prepared(inputs[:1])
    return Work(
        arithmetic.get_total_flops(),
        live.most,
        encoder.parameter_count,
        encoder.batch_size,
        reading,
    )


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers in the tensors that were made within and are still in use, at most."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {id(one.untyped_storage()) for one in tree_leaves(args) if isinstance(one, Tensor)}
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                if id(storage) not in self._known | given:
                    self._take(storage, storage.nbytes() // one.element_size())
        return made

    def _take(self, storage: Any, size: int) -> None:
        key = id(storage)
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def fleet(
    devices: str, shares: Sequence[UnitForecast], works: dict[str, Work], half: bool
) -> Fleet:
    """What is to be done, on some devices.

    Args:
        devices: see `parse`.
        shares: what is to be done; their seconds are of probes, without fine-tuning.
        works: of the models that have something to encode.
        half: whether networks compute in bfloat16 or float16.
    """
    count, name = parse(devices)
    device = DEVICES[name]
    rate = 1e12 * SHARE * (device.half if half else device.single)
    models, loads = [], [share.probe_seconds for share in shares if share.model not in works]
    for model, work in works.items():
        numbers = work.parameters + work.batch * work.activations
        memory = _SPARE * (2 if half else 4) * numbers / 1e9
        encoding = reading = 0.0
        for share in (one for one in shares if one.model == model):
            computing = (share.batches * work.batch + share.passes) * work.flops / rate
            waiting = share.inputs * work.reading / CORES
            loads.append(max(computing, waiting) + share.probe_seconds)
            encoding, reading = encoding + computing, reading + waiting
        fits = memory <= device.memory
        models.append(Placed(model, work.flops / 1e9, encoding, reading, memory, fits))
    busy = [0.0] * count
    for load in sorted(loads, reverse=True):
        busy[busy.index(min(busy))] += load
    return Fleet(count, name, models, max(busy))
