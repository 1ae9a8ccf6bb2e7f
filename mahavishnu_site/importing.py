"""Whether a module is there, told without importing it: a user's may need Django's models, which are not ready yet."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Iterable
from importlib.machinery import ModuleSpec


def can_be_found(name: str) -> bool:
    """Tell whether a module of this dotted name is there; nothing is imported, also none of the packages it is in.

    `importlib.util.find_spec` alone would import those.
    """
    top, *parts = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return False  # One that was not imported from anywhere, as the program itself.
    found = [] if spec is None else [spec]
    for part in parts:
        top = f"{top}.{part}"
        found = _found_in(found, top)
    return bool(found)


def _found_in(packages: Iterable[ModuleSpec], name: str) -> list[ModuleSpec]:
    """Return the module of this name, or each folder of that name if none of them says that it is a package."""
    folders = [folder for package in packages for folder in package.submodule_search_locations or ()]
    finders = filter(None, map(pkgutil.get_importer, folders))
    found = [spec for finder in finders if (spec := finder.find_spec(name)) is not None]
    return [spec for spec in found if spec.loader is not None][:1] or found
