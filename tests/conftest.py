"""Shared by all tests: one torch thread, examples without a time limit, and Ctrl-C that works."""

import signal

import torch
from hypothesis import settings

# Numbers and times then do not depend on what else runs.
torch.set_num_threads(1)

# How long an example takes on a busy machine says nothing about the code.
settings.register_profile("moerec", deadline=None)
settings.load_profile("moerec")

# A shell starts what it puts in the background deaf to Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
