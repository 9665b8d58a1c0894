"""Outpost's protocol core: what replicas say to each other and how they come to agree.

Sans-I/O: functions and small machines that take values and return values. Time, ids and stored rows come in as
arguments; nothing here opens a file or a socket, reads a clock, draws a random number or writes a log. The authority
is PROTOCOL.md in this folder.

Reading order: PROTOCOL.md, limits, errors; values, columns, change (what is said); rows, builder, segment, messages, wire
(how it is written); policy and policies/, merge (who wins, and why); digest, signature, ids.

May import: the standard library without I/O, msgspec, zstandard, cryptography's primitives. None of our own packages.
"""
