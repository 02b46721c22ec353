"""Stands in for packages that those asked here import and never use while they are asked; they would be most of the download.

Whatever is taken from a stand-in is an empty class, so that annotations and subclasses work. Using one is an error.
"""

import importlib.abc
import importlib.machinery
import sys
import types

ABSENT = {
    "PIL", "aiofiles", "aiohttp", "anyio", "fastapi", "jsonschema", "loudness", "lxml", "numpy", "opentelemetry", "referencing",
    "requests", "sentencex", "soxr", "starlette", "websockets",
}


class StandIn(types.ModuleType):
    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        whole = f"{self.__name__}.{name}"

        def make(self, *args, **kwargs):
            pass

        def use(self, attribute):
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            raise RuntimeError(f"{whole} is used ({attribute}), though it only stands in for what is not installed")

        made = type(name, (), {"__init__": make, "__getattr__": use, "__module__": self.__name__})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Finder())
