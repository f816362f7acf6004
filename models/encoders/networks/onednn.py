"""Linear layers of f32 on a CPU by oneDNN, where its kernels are faster than those that PyTorch takes.

PyTorch multiplies f32 by MKL, which leaves half of the width of AVX-512 unused on processors that are not Intel's.
oneDNN, which PyTorch has for convolutions and for bf16, uses all of it on any, in the same precision.
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
    """Within it, and torch.inference_mode, linear layers go through oneDNN where that is faster, whoever calls them.

    Args:
        device: on which the network is.
        dtype: of its weights.
    """
    if device.type != "cpu" or dtype != torch.float32 or not one_dnn_is_faster():
        yield
        return
    whole_attention = torch.backends.mha.get_fastpath_enabled()
    # PyTorch's own shortcut for attention has its linear layers inside, by MKL.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _ByOneDNN():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(whole_attention)


def one_dnn_is_faster() -> bool:
    """Whether this PyTorch has oneDNN, switched on, and this processor AVX-512 that MKL does not use."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and not is_intels()
    )


def is_intels() -> bool:
    """Whether the processor is Intel's, or the system, being no Linux, does not tell."""
    if not CPUINFO.exists():
        return True
    with CPUINFO.open(encoding="utf-8") as cores:
        return "GenuineIntel" in cores.read(1000)  # the first core; all of a large machine's take long


class _ByOneDNN(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of a thread, and takes the linear layers."""

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
    """What torch.nn.functional.linear gives, by oneDNN if it is f32."""
    if given.dtype != torch.float32 or not given.numel():
        return torch.nn.functional.linear(given, weight, bias)
    # What PyTorch's compiler makes of a linear layer.
    found: Tensor = torch.ops.mkldnn._linear_pointwise(given, weight, bias, "none", [], "")
    return found
