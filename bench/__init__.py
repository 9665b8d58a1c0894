"""What Outpost costs: one run that measures capture, push, pull, small changes, bytes and memory on this machine.

Reading order: workload (the rows), machine (where), local (plain and captured inserts), server and node (the real
processes), rounds (what is run, interleaved), report (floors, table, JSON), __main__. Results: RESULTS.md.
May import everything; nothing imports it. Run as `python3 scripts/run.py bench [--quick] [--json] [--check]`.
"""
