"""The static files of all apps, collected into one folder under names that contain a hash of their contents.

A server process collects them when it starts, if a file has changed since. Each file is complete before it gets its
name, and files of earlier versions stay for a while: processes of two versions may share the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import brotli
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.files.base import ContentFile
from whitenoise.compress import Compressor
from whitenoise.storage import CompressedManifestStaticFilesStorage

from mahavishnu_site.var_dir import WRITABLE_BY_OTHERS, UnsafeDirectoryError

_STAMP: Final = ".collected"
_TEMPORARY_PREFIX: Final = ".collecting-"

_PACKAGES: Final = ("django", "whitenoise", "brotli")
"""What processes the files."""

_COMMENT_LINES: Final = re.compile(rb"^[ \t]*(?://.*|/\*\*(?:[^*]|\*(?!/))*\*/[ \t]*)\n", re.MULTILINE)

_OWN_FOLDERS: Final = ("dashboard/", "realtime/")

_BROTLI_QUALITY: Final = 10
"""Instead of 11, which takes four times as long. The files are 2 % larger."""

KEPT_SECONDS: Final = 30 * 24 * 3600
"""How long files of earlier versions are kept: a page of such a version may be open, and load another module."""


class StaticFilesError(Exception):
    """Raised when the files cannot be collected."""


class _QuickCompressor(Compressor):
    """Compresses the files while a server waits to start."""

    @staticmethod
    def compress_brotli(data: bytes) -> bytes:
        """Return the compressed data."""
        compressed: bytes = brotli.compress(data, quality=_BROTLI_QUALITY)
        return compressed


class HashedNames(CompressedManifestStaticFilesStorage):
    """Names with hashes, also in the imports of modules and in the URLs of style sheets."""

    support_js_module_import_aggregation = True
    # Each pass finds the names of the modules that import those of the pass before.
    max_post_process_passes = 50

    def create_compressor(self, **kwargs: Any) -> Compressor:
        """Return what compresses each file."""
        return _QuickCompressor(**kwargs)

    def stored_name(self, name: str) -> str:
        """Return the name with its hash. A name that was not collected stays as it is: no page fails for it."""
        try:
            stored: str = super().stored_name(name)
        except ValueError:
            return name
        return stored

    def url_converter(
        self, name: str, hashed_files: dict[str, str], template: str | None = None
    ) -> Callable[[re.Match[str]], str]:
        """Return what replaces a reference. One in a comment stays: it imports a type, perhaps of the same module."""
        convert: Callable[[re.Match[str]], str] = super().url_converter(name, hashed_files, template)
        return lambda match: match["matched"] if _is_in_comment(match) else convert(match)


class _UncommentedScripts:
    """The storage of an app whose scripts have no comments of whole lines: they are a quarter of what would be sent."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def open(self, path: str) -> ContentFile[bytes]:
        """Return the script. Each line of code keeps its number, which errors name."""
        with self._storage.open(path) as file:
            script: bytes = file.read()
        return ContentFile(_COMMENT_LINES.sub(lambda match: b"\n" * match[0].count(b"\n"), script))


def _is_own_script(name: str) -> bool:
    """Return whether a file is a script of this source. Libraries keep their licences, and are minified already."""
    return name.endswith(".js") and name.startswith(_OWN_FOLDERS) and "/vendor/" not in name


def _is_in_comment(match: re.Match[str]) -> bool:
    before = match.string[match.string.rfind("\n", 0, match.start()) + 1 : match.start()].lstrip()
    return before.startswith(("//", "*")) or (before.startswith("/*") and "*/" not in before)


def collect_static_files(root: Path) -> bool:
    """Collect the files into a folder if they have changed; return whether they had.

    With `DEBUG`, they are served from where they are.

    Raises:
        StaticFilesError: if a file refers to one that does not exist, or the folder cannot be written to, or others may
            do so: they could replace scripts.
    """
    if settings.DEBUG:
        return False
    try:
        if root.exists() and root.stat().st_mode & WRITABLE_BY_OTHERS:
            raise UnsafeDirectoryError(root, "can be written to by other users")
        sources = dict(_sources())
        fingerprint = _fingerprint(sources)
        if _read_stamp(root) == fingerprint:
            return False
        root.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=root))
        try:
            _collect(sources, temporary)
            (temporary / _STAMP).write_text(fingerprint, encoding="ascii")
            _move(temporary, root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise StaticFilesError(f"The static files cannot be collected into {root}: {error}") from error
    return True


def _sources() -> Iterator[tuple[str, tuple[Any, str]]]:
    """Yield the name of each file, and where it is. Of two with the same name, the first app has precedence."""
    found = set()
    for finder in get_finders():
        for path, storage in finder.list(["CVS", ".*", "*~"]):
            name = os.path.join(getattr(storage, "prefix", None) or "", path)
            if name not in found:
                found.add(name)
                yield name, (storage, path)


def _fingerprint(sources: dict[str, tuple[Any, str]]) -> str:
    """Return a hash that differs when files or the packages that process them do."""
    digest = hashlib.sha256(repr([*map(version, _PACKAGES), settings.STATIC_URL]).encode())
    for name, (storage, path) in sorted(sources.items()):
        status = os.stat(storage.path(path))
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _read_stamp(root: Path) -> str | None:
    try:
        return (root / _STAMP).read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def _collect(sources: dict[str, tuple[Any, str]], folder: Path) -> None:
    storage = HashedNames(location=folder, base_url=settings.STATIC_URL)
    for name, (source, path) in sources.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.path(path), target)
    # Only files with a hash in their name are changed: the other ones are for people to read and to copy.
    read = {
        name: (_UncommentedScripts(source) if _is_own_script(name) else source, path)
        for name, (source, path) in sources.items()
    }
    for name, _hashed_name, processed in storage.post_process(read):
        if isinstance(processed, Exception):
            raise ValueError(f"{name}: {' '.join(str(processed).split())}") from processed


def _move(temporary: Path, root: Path) -> None:
    """Give each file its name in `root`: the manifest and the stamp last. Remove old files that are not among them."""
    found = sorted(temporary.rglob("*"))
    for path in found:
        if path.is_dir():
            (root / path.relative_to(temporary)).mkdir(mode=stat.S_IRWXU, exist_ok=True)
    names = [path.relative_to(temporary) for path in found if path.is_file()]
    last = [Path(HashedNames.manifest_name), Path(_STAMP)]
    for name in [*(name for name in names if name not in last), *last]:
        os.chmod(temporary / name, stat.S_IRUSR | stat.S_IWUSR)
        os.replace(temporary / name, root / name)
    kept = {root / name for name in names}
    for folder, _folders, files in os.walk(root):
        for path in (Path(folder, file) for file in files):
            # Another process may remove the same file.
            with suppress(FileNotFoundError):
                if path not in kept and time.time() - path.stat().st_mtime > KEPT_SECONDS:
                    path.unlink()
