"""What machine this is: device, cores, versions."""

import os
import platform
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    import torch  # imported where it is used: processes that draw synthetic data start without it


def pick_device() -> "torch.device":
    """CUDA where there is a GPU for it, Apple's MPS where there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def cores() -> int:
    """Cores that this process may use (a container's or taskset's limit counts, not the machine's)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions that a result depends on, as plain strings."""
    import torch

    return {"helpers": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
