"""The time zone of this machine, for the log, the admin and the stages of workflows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

LOCAL_TIME_FILE: Final = Path("/etc/localtime")

_FOLDER: Final = "zoneinfo"


def local_time_zone(environment: Mapping[str, str], *, local_time_file: Path = LOCAL_TIME_FILE) -> str:
    """Return the IANA name of the zone of `TZ` or, without it, of the machine; `UTC` if it has no name."""
    variable = environment.get("TZ", "").removeprefix(":")
    name = variable or _name_of(local_time_file)
    # Django accepts the zones of the system only.
    is_known = (Path("/usr/share/zoneinfo") / name).is_file() if Path("/usr/share/zoneinfo").is_dir() else True
    try:
        return ZoneInfo(name).key if is_known else "UTC"
    except (ValueError, OSError, LookupError):
        return "UTC"


def _name_of(file: Path) -> str:
    """Return `Europe/Berlin` for a link to `…/zoneinfo/Europe/Berlin`; an empty text for another file."""
    try:
        parts = file.resolve(strict=True).parts
    except (OSError, RuntimeError):
        return ""
    return "/".join(parts[parts.index(_FOLDER) + 1 :]) if _FOLDER in parts else ""
