"""`python -m helpers VERB`: the command line."""

import os
import sys

# Read when torch is loaded: its threads (GNU's OpenMP) that wait for another one spin 300 000 times before they sleep.
# Beside another busy process a step then takes many times as long; 10 000 cost nothing measurable.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from .cli import main  # after the line above

if __name__ == "__main__":
    sys.exit(main())
