"""Copy the libraries of the pages from their npm packages: `make vendor` runs it.

`dashboard/vendor.json` names the packages, their versions and the files to copy. This program adds the SHA-512 of each
package, as npm's registry has it, and the SHA-256 of each file that it wrote.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.harness.browser import NODE
from tests.harness.programs import PROJECT_DIR
from tests.javascript.npm import NPM

LIST: Final = PROJECT_DIR / "dashboard" / "vendor.json"
VENDOR_DIR: Final = PROJECT_DIR / "dashboard" / "static" / "dashboard" / "vendor"

# Maps are not copied, and Django's manifest storage refuses a reference to a file that is missing.
_SOURCE_MAP: Final = re.compile(rb"\n*(//# sourceMappingURL=\S+|/\*# sourceMappingURL=\S+ \*/)\n*\Z")


def main() -> None:
    """Write the files of every library, and the list with its hashes."""
    libraries: list[dict[str, Any]] = json.loads(LIST.read_text(encoding="utf-8"))
    shutil.rmtree(VENDOR_DIR, ignore_errors=True)
    for library in libraries:
        with TemporaryDirectory() as directory:
            tarball = download(f"{library['package']}@{library['version']}", Path(directory))
            library["tarball_sha512"] = hashlib.sha512(tarball.read_bytes()).hexdigest()
            library["sha256"] = extract(tarball, library)
    LIST.write_text(json.dumps(libraries, indent=2) + "\n", encoding="utf-8")


def download(specification: str, directory: Path) -> Path:
    """Download a package with npm, which checks its hash, and return the path of the tarball."""
    command: list[str | Path] = [NODE, NPM, "pack", specification, "--json", "--loglevel=error"]
    packed = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, check=True).stdout
    return directory / str(json.loads(packed)[0]["filename"])


def extract(tarball: Path, library: dict[str, Any]) -> dict[str, str]:
    """Write the files of a library, and return the SHA-256 of each."""
    hashes = {}
    with tarfile.open(tarball) as archive:
        for name, source in library["files"].items():
            member = archive.extractfile(f"package/{source}")
            assert member is not None, f"{source} is not a file"
            content = _SOURCE_MAP.sub(b"\n", member.read()) + library.get("appended", {}).get(name, "").encode()
            path = VENDOR_DIR / library["name"] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


if __name__ == "__main__":
    main()
