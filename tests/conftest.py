"""One thread a process, for tests and what they start.

Their tensors are tiny: several threads wait for each other longer than they compute, and twenty
times as long where other work keeps the cores busy.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
