"""The protocol core, module by module, and PROTOCOL.md's rules against the tests that cover them."""
