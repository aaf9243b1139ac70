"""Measurements: ratios within one run, printed and never asserted, since machines are noisy."""
