"""Measurements: `python -m bench [NAME...]`, one workload a file.

Each run calibrates the machine, then lets this package and its peers take turns (A B A B), every side in a process of
its own, and writes medians, ratios with their spread and the machine's calibration to
`bench/results/MACHINE/NAME.json`.
"""
