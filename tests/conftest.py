"""One thread for each process of the tests: sums are then the same to the bit, and small models run faster."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, here and in what the tests start
