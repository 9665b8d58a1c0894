"""Power loss: what a database file may look like when writes that were not synced are lost, torn or out of order.

shim.c records every write and sync of a process; trace.py reads the recording; disk.py says which images a disk may
show after each step; images.py opens them and looks for what was acknowledged.
"""
