"""What Outpost costs: one run that measures capture, push, pull, small changes, bytes and memory on this machine.

Reading order: cli (the command), plan (what is run, interleaved), sales, contention, changes, first, herd (what is measured),
peers (other engines), running, report. Beneath them: sizes, workload (the rows), machine (where), local (plain and
captured inserts), server, node, pair, postgres (the real processes), figures, goals. Results: RESULTS.md; what the figures mean:
docs/benchmark.md. Part of the installed program, so that it measures where that runs; loaded by its own command only. May import
everything; nothing imports it. Run as `outpost bench [--quick] [--json] [--check]`.
"""
