"""Fuzzing: what a hostile or broken peer may send, from seeds.

Reading order: mutate (how bytes and messages are spoiled) · corpus (what is spoiled) · decoders (what reads it) · run
(counts, times, memory) · centre, cases, endpoints (the same against the whole server). `scripts/fuzz.py` runs them at length.
"""
