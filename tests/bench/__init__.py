"""The benchmark's command, at sizes that tell nothing about speed."""
