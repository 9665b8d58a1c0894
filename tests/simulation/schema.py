"""The schema the simulator runs on: the tables of `tests/simulation/tables/`, nothing else."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import tests.simulation.tables as folder
from schema.declare import Synced
from schema.registry import Schema, build


def models() -> list[type[Synced]]:
    """Return the simulator's tables as they are declared."""
    modules = [importlib.import_module(f"{folder.__name__}.{info.name}") for info in pkgutil.iter_modules(folder.__path__)]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, type) and issubclass(value, Synced)]
    return [model for model in found if model is not Synced]


@cache
def simulated_schema() -> Schema:
    """Return the schema of the simulator's tables."""
    return build(models())
