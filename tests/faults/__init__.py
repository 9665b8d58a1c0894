"""Faults for real processes: a proxy that mistreats the network, kills at a chosen system call, power that fails.

Reading order: workload (what is written and acknowledged) → processes (a centre and nodes that are killed and started
again) → checks (what must hold at rest) → proxy, strace, power/ (the faults) → kills, swarm (runs of many faults).
Run by scripts/torture.py at length and by tests/processes/ in small.
"""
