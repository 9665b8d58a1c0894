"""Two nodes and a centre that hold the same contacts, while what is done with them is measured."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench import local, node, server
from bench.workload import BRANCH, contacts


class Pair:
    """A centre on a file and two nodes in step with it, as long as the stack lasts that it is given."""

    def __init__(self, home: Path, count: int, stack: ExitStack, *, plain: bool = False) -> None:
        """Make them, with so many contacts each; with `plain` also an ordinary table of the same rows, in `self.plain`."""
        home.mkdir(parents=True)
        self.centre = stack.enter_context(server.running(home / "server"))
        codes = self.centre.invite_all({name: [f"branch:{BRANCH}"] for name in ("mine", "other")})
        self.mine = stack.enter_context(node.Node(home / "mine", self.centre.url, codes[0]))
        self.other = stack.enter_context(node.Node(home / "other", self.centre.url, codes[1]))
        self.plain = home / "plain.db"
        self.ids: list[str] = []
        if plain:
            local.make_plain(self.plain, "contact")
        for portion in contacts(count):  # in portions: the centre journals each as one version
            local.insert_contacts(self.centre.path, portion)
            if plain:
                local.insert_contacts(self.plain, portion)
            self.settle()
            self.ids += [row[0] for row in portion]
        found = self.other.run(node.count, "contact")
        assert found == count, f"{found} of {count} came"

    def settle(self) -> None:
        """Let both nodes hear of everything."""
        for each in (self.mine, self.other, self.mine):
            each.run(node.sync)
