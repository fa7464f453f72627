"""Run by accelerate launch with two CPU processes: scripts/hyperfit.py under FSDP2.

torch shards models on CPUs as well (gloo), but accelerate takes its FSDP branch for accelerators only and falls
back to plain data parallel. So here it is told that two accelerators are at hand, whose device is the CPU; all that
shards, gathers, trains and saves is the real thing.
"""

import runpy
import sys

import torch
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from paths import ROOT

SCRIPT = ROOT / "scripts" / "hyperfit.py"


def main() -> None:
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda self, *args: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
    sys.argv[0] = str(SCRIPT)
    runpy.run_path(str(SCRIPT), run_name="__main__")


if __name__ == "__main__":
    main()
