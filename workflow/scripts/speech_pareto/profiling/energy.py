"""Joules as the platform itself counts them: RAPL of processors, NVML of GPUs; never a guess.

Either counts all that its chip does, idling and other programs included.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")


class Rapl:
    """The processor packages, as Linux tells it to those who may read it (often root alone)."""

    source = "RAPL"

    def __init__(self, root: Path) -> None:
        zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        self.zones = [zone for zone in zones if _text(zone / "name").startswith("package")]
        if not self.zones:
            raise OSError(f"{root}: no processor package")
        self.ranges = [int(_text(zone / "max_energy_range_uj")) + 1 for zone in self.zones]
        self.read()

    def read(self) -> list[int]:
        """Return the counters."""
        return [int(_text(zone / "energy_uj")) for zone in self.zones]

    def joules(self, before: list[int], after: list[int]) -> float:
        """Return what went between two readings, less than one turn of a counter apart."""
        pairs = zip(before, after, self.ranges, strict=True)
        return sum((last - first) % turn for first, last, turn in pairs) / 1e6


class Nvml:
    """A GPU, as NVIDIA's library tells it."""

    source = "NVML"

    def __init__(self, device: torch.device) -> None:
        import pynvml

        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        self.handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        self.counter = pynvml.nvmlDeviceGetTotalEnergyConsumption
        self.read()

    def read(self) -> int:
        """Return the counter."""
        return self.counter(self.handle)

    def joules(self, before: int, after: int) -> float:
        """Return what went between two readings."""
        return (after - before) / 1e3


def meter(device: torch.device) -> Any:
    """Return what counts a device's energy, None where nothing can be read."""
    if device.type != "cuda":
        try:
            return Rapl(POWERCAP)
        except (OSError, ValueError):
            return None
    try:
        return Nvml(device)
    except Exception:  # pynvml is missing, or the GPU has no counter: NVMLError is no OSError
        return None


def energy(device: torch.device, passes: Mapping, least: float = 1.0) -> dict:
    """Return {name: joules of a pass} and `energy_source`; nothing without a meter.

    `passes` are functions by name that make a pass and return its seconds. Each is called for at
    least so many seconds, since counters move in steps of up to 0.1 s.
    """
    counter = meter(device)
    if counter is None:
        return {}
    found: dict[str, Any] = {"energy_source": counter.source}
    for name, run in passes.items():
        before, seconds, number = counter.read(), 0.0, 0
        while seconds < least:
            seconds, number = seconds + run(), number + 1
        found[name] = counter.joules(before, counter.read()) / number
    return found


def _text(file: Path) -> str:
    """Return what stands in a small file."""
    return file.read_text(encoding="utf-8").strip()
