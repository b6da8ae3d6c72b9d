"""Shared by the six notebooks: from a folder of photographs to a trained U-Net and its F1 table."""

import os

# GNU's OpenMP under torch: a thread that waits for another one spins 300 000 times before it sleeps. Where something
# else had the core, a step took seconds instead of tenths; 10 000 cost nothing measurable. Read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__version__ = "0.2.0"
