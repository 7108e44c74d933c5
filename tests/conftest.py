"""Shared by all tests: one torch thread, and Ctrl-C that works."""

import signal

import torch

# Numbers and times then do not depend on what else runs.
torch.set_num_threads(1)

# A shell starts what it puts in the background deaf to Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
