"""Training examples in tar archives: written once, read by many processes in any order, from anywhere."""
