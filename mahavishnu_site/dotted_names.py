"""The values of variables with dotted names, such as `MAHAVISHNU_APPS`: what they name exists. Nothing is imported."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from collections.abc import Iterable
from importlib.machinery import ModuleSpec

from mahavishnu_site.env import UnexpectedValueError

DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")

PACKAGES_EXPECTED = "dotted names of Python packages separated by commas, such as shop,warehouse.jobs"
FUNCTION_EXPECTED = "the dotted path of a function, such as shop.permissions.may"
NAMED_PATHS_EXPECTED = "names and classes separated by commas, such as crew=shop.adapters.CrewAdapter"


def parse_package(value: str) -> str:
    """Return the dotted name of a Python package with a module `workflows`, if both exist; neither is imported."""
    if not DOTTED_NAME.fullmatch(value):
        raise UnexpectedValueError(PACKAGES_EXPECTED)
    if not module_exists(value):
        raise UnexpectedValueError(f"{PACKAGES_EXPECTED}; {value} was not found")
    if not module_exists(f"{value}.workflows"):
        raise UnexpectedValueError(f"{PACKAGES_EXPECTED}; {value} has no module workflows")
    return value


def parse_named_path(value: str) -> tuple[str, str]:
    """Return a name and the dotted path of a class, written `name=package.module.Class`.

    The module must exist, but is not imported. A missing class is reported at its first use.
    """
    name, _, path = (part.strip() for part in value.partition("="))
    module, _, _ = path.rpartition(".")
    if not name or not module or not DOTTED_NAME.fullmatch(path):
        raise UnexpectedValueError(NAMED_PATHS_EXPECTED)
    if not module_exists(module):
        raise UnexpectedValueError(f"{NAMED_PATHS_EXPECTED}; {module} was not found")
    return name, path


def parse_function(value: str) -> str:
    """Return the dotted path of a function. The module must exist; the app imports it when Django is ready."""
    module, _, _ = value.rpartition(".")
    if not module or not DOTTED_NAME.fullmatch(value):
        raise UnexpectedValueError(FUNCTION_EXPECTED)
    if not module_exists(module):
        raise UnexpectedValueError(f"{FUNCTION_EXPECTED}; {module} was not found")
    return value


def module_exists(name: str) -> bool:
    """Return whether a module of this dotted name exists, without importing it or a package that contains it.

    `importlib.util.find_spec` alone would import the packages.
    """
    top, *parts = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return False  # A module without a spec, such as `__main__`.
    found = [] if spec is None else [spec]
    for part in parts:
        top = f"{top}.{part}"
        found = _found_in(found, top)
    return bool(found)


def _found_in(packages: Iterable[ModuleSpec], name: str) -> list[ModuleSpec]:
    """Return the module of this name, or each folder of that name if none is a regular package."""
    folders = [folder for package in packages for folder in package.submodule_search_locations or ()]
    finders = filter(None, map(pkgutil.get_importer, folders))
    found = [spec for finder in finders if (spec := finder.find_spec(name)) is not None]
    return [spec for spec in found if spec.loader is not None][:1] or found
