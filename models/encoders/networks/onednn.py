"""f32 linear layers by oneDNN on CPUs where its kernels are faster than PyTorch's default.

PyTorch multiplies f32 matrices by MKL, which uses only half the width of AVX-512 on processors that are not Intel's.
oneDNN, which PyTorch uses for convolutions and for bf16, uses the full width on any, in the same precision.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CPUINFO = Path("/proc/cpuinfo")


@contextmanager
def fast_linear_layers(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Route linear layers through oneDNN where that is faster; for use within torch.inference_mode.

    Args:
        device: the network's device.
        dtype: type of the network's weights.
    """
    if device.type != "cpu" or dtype != torch.float32 or not one_dnn_is_faster():
        yield
        return
    fastpath_enabled = torch.backends.mha.get_fastpath_enabled()
    # PyTorch's fast path for attention fuses its linear layers, which then use MKL.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _ByOneDNN():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath_enabled)


def one_dnn_is_faster() -> bool:
    """Whether PyTorch has oneDNN enabled and the processor has AVX-512 that MKL does not fully use."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and not is_intels()
    )


def is_intels() -> bool:
    """Whether the processor is Intel's; True on systems other than Linux, where it is unknown."""
    if not CPUINFO.exists():
        return True
    with CPUINFO.open(encoding="utf-8") as cores:
        return "GenuineIntel" in cores.read(1000)  # only the first core: reading all takes long on a large machine


class _ByOneDNN(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Intercepts a thread's linear layers."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - torch's own
        call = linear if func is torch.ops.aten.linear.default else func
        return call(*args, **(kwargs or {}))


def linear(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """torch.nn.functional.linear, by oneDNN if the input is f32."""
    if given.dtype != torch.float32 or not given.numel():
        return torch.nn.functional.linear(given, weight, bias)
    # The operation to which PyTorch's compiler lowers a linear layer.
    output: Tensor = torch.ops.mkldnn._linear_pointwise(given, weight, bias, "none", [], "")
    return output
