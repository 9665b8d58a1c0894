"""The conflict policies: one file each, named like the policy, found by listing this folder.

sync/policy.py says what they share. May import: sync.policy, sync.values, msgspec. A policy does not import another.
"""
