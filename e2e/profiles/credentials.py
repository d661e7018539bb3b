"""Prints the installed adapters' credentials classes as JSON: the names that
each takes for its keys, which keys it requires, and all that it has."""

import dataclasses
import inspect
import json
import os
import sys

from dbt.adapters.contracts.connection import Credentials
from dbt.adapters.factory import FACTORY, load_plugin
from dbt_common.context import set_invocation_context


def classes(cls):
    """The class, or, of dbt-trino's factory, all that it chooses from."""
    if dataclasses.is_dataclass(cls):
        return [cls]
    members = vars(sys.modules[cls.__module__]).values()
    return [m for m in members if inspect.isclass(m) and issubclass(m, Credentials) and m.__module__ == cls.__module__ and not inspect.isabstract(m)]


def required(cls):
    return {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}


def main():
    set_invocation_context(os.environ)
    result = {}
    for name in sys.argv[1:]:
        load_plugin(name)
        all = classes(FACTORY.plugins[name].credentials)
        result[name] = {
            "aliases": all[0]._ALIASES,
            "required": sorted(set.intersection(*(required(c) for c in all))),
            "fields": sorted({f.name for c in all for f in dataclasses.fields(c)}),
        }
    json.dump(result, sys.stdout, indent=1, sort_keys=True)
    print()


main()
