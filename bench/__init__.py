"""Benchmarks, run by hand: each prints ratios within one run, since machines are noisy."""
