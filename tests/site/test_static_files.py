"""Static files: hashed names, compression, caches, and paths that lead out of their folder."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from playwright.async_api import Browser, expect

from mahavishnu_site.static_files import KEPT_SECONDS, StaticFilesError, collect_static_files
from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST, free_port
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer
from tests.harness.static_files import shared_static_files

CLIENT = "/static/realtime/clients/1.0.0/mahavishnu.js"
IMMUTABLE = "max-age=315360000, public, immutable"
REVALIDATED = "max-age=0, public"


class Answer:
    """A response whose body was read."""

    def __init__(self, port: int, path: str, *, method: str = "GET", **headers: str) -> None:
        # Not urllib, which normalizes the path.
        connection = HTTPConnection(HOST, port, timeout=60)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        self.status, self.headers, self.body = response.status, response.headers, response.read()
        connection.close()


def hashed_path(server: MahavishnuServer, name: str, *, page: str = "/", prefix: str = "") -> str:
    """Return the path with which a page refers to a file."""
    root, extension = os.path.splitext(name)
    html = Answer(server.port, f"{prefix}{page}").body.decode()
    found = re.search(rf"{prefix}/static/{re.escape(root)}\.[0-9a-f]{{12}}\{extension}", html)
    assert found, html
    return found[0]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (CLIENT, 200),
        ("/static/realtime/no.js", 404),
        ("/static/realtime", 404),
        ("/static/", 404),
        ("/static/../../manage.py", 404),
        ("/static/realtime/%2e%2e/%2e%2e/%2e%2e/settings.py", 404),
        ("/static//etc/passwd", 404),
        (f"{CLIENT}%00", 404),
        (f"{CLIENT}/more", 404),
        (f"/static/{'n' * 5000}", 404),
    ],
)
def test_static_files_return_404_for_paths_outside(server: MahavishnuServer, path: str, status: int) -> None:
    answer = Answer(server.port, path)
    assert (answer.status, b"Internal" in answer.body) == (status, False)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_pages_refer_to_hashed_names_that_caches_keep(server: MahavishnuServer) -> None:
    path = hashed_path(server, "dashboard/tokens.css")
    plain, compressed = Answer(server.port, path), Answer(server.port, path, Accept_Encoding="gzip")
    smallest, kept = (Answer(server.port, path, Accept_Encoding="gzip, br") for _ in range(2))
    assert plain.status == compressed.status == 200
    assert plain.headers["Cache-Control"] == compressed.headers["Cache-Control"] == IMMUTABLE
    assert plain.headers["Vary"] == compressed.headers["Vary"] == "Accept-Encoding"
    assert plain.headers["Content-Type"] == 'text/css; charset="utf-8"'
    assert (plain.headers["Content-Encoding"], compressed.headers["Content-Encoding"]) == (None, "gzip")
    assert len(compressed.body) == int(compressed.headers["Content-Length"]) < len(plain.body)
    assert gzip.decompress(compressed.body) == plain.body
    assert smallest.headers["Content-Encoding"] == "br"
    assert len(smallest.body) < len(compressed.body) < len(plain.body)
    assert (kept.status, dict(kept.headers), kept.body) == (200, dict(smallest.headers), smallest.body)


def test_unhashed_name_is_revalidated(server: MahavishnuServer) -> None:
    first = Answer(server.port, CLIENT)
    source = PROJECT_DIR / "realtime" / "static" / CLIENT.removeprefix("/static/")
    assert (first.body, first.headers["Cache-Control"]) == (source.read_bytes(), REVALIDATED)
    assert first.headers["Content-Type"] == 'text/javascript; charset="utf-8"'
    again = Answer(server.port, CLIENT, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("POST", 405), ("PUT", 405)])
def test_static_file_is_only_read(server: MahavishnuServer, method: str, status: int) -> None:
    answer = Answer(server.port, CLIENT, method=method)
    assert (answer.status, answer.body) == (status, b"")


def test_missing_file_and_icon_log_no_warning(start_server: StartServer) -> None:
    server = start_server()
    assert Answer(server.port, "/static/nowhere.js").status == 404
    icon = Answer(server.port, "/favicon.ico")
    assert icon.status == 302
    assert Answer(server.port, icon.headers["Location"]).headers["Content-Type"] == "image/svg+xml"
    assert "WARNING" not in server.log_text()


def test_static_files_are_below_the_path_prefix(start_server: StartServer) -> None:
    server = start_server(environment={"MAHAVISHNU_PATH_PREFIX": "/mv"})
    path = hashed_path(server, "dashboard/tokens.css", prefix="/mv")
    assert Answer(server.port, path).headers["Cache-Control"] == IMMUTABLE
    assert Answer(server.port, f"/mv{CLIENT}").status == 200
    assert Answer(server.port, CLIENT).status == 404


@pytest.mark.browser
async def test_browser_loads_hashed_modules_and_what_they_import(server: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, "about:blank") as page:
        answers: list[tuple[str, int]] = []
        page.on("response", lambda answer: answers.append((urlsplit(answer.url).path, answer.status)))
        await page.goto(f"{server.http_url}/")
        await expect(page.locator("body")).to_have_attribute("data-connection", "live")
    static = [(path, status) for path, status in answers if path.startswith("/static/")]
    assert len([path for path, _ in static if path.endswith(".js")]) >= 2
    assert [each for each in static if not re.search(r"\.[0-9a-f]{12}\.", each[0]) or each[1] != 200] == []


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[Path]:
    """Give a folder whose files are all static files there are."""
    folder = tmp_path / "sources"
    folder.mkdir()
    finder = "django.contrib.staticfiles.finders.FileSystemFinder"
    with override_settings(STATICFILES_DIRS=[folder], STATICFILES_FINDERS=[finder]):
        yield folder


def collected(root: Path, pattern: str) -> Path:
    (path,) = root.glob(pattern)
    return path


def test_modules_import_hashed_names(sources: Path, tmp_path: Path) -> None:
    (sources / "page.js").write_text(
        'import { a } from "./a.js";\nimport"./b.js";\nexport * from "./b.js";\n'
        'const later = () => import("./lazy.js");\n/** @type {import("./page.js").Page} */\nlet page;\n'
    )
    (sources / "a.js").write_text('import "./b.js";\nexport const a = 1;\n')
    for name in ("b.js", "lazy.js"):
        (sources / name).write_text("export const b = 2;\n")
    root = tmp_path / "root"
    assert collect_static_files(root)
    a, b, lazy = (collected(root, f"{name}.????????????.js").name for name in ("a", "b", "lazy"))
    assert collected(root, "page.????????????.js").read_text() == (
        f'import {{ a }} from "./{a}";\nimport"./{b}";\nexport * from "./{b}";\n'
        f'const later = () => import("./{lazy}");\n/** @type {{import("./page.js").Page}} */\nlet page;\n'
    )
    assert f'"./{b}"' in (root / a).read_text()


def test_files_are_collected_again_when_one_changes(sources: Path, tmp_path: Path) -> None:
    root, source = tmp_path / "root", sources / "style.css"
    source.write_text("p { color: red }")
    assert [collect_static_files(root), collect_static_files(root)] == [True, False]
    first = collected(root, "style.????????????.css")
    source.write_text("p { color: green }")
    assert collect_static_files(root)
    assert (root / "style.css").read_text() == "p { color: green }"
    # A page of the earlier version may be open.
    assert len(list(root.glob("style.????????????.css"))) == 2
    os.utime(first, (0, time.time() - KEPT_SECONDS - 60))
    source.write_text("p { color: blue }")
    assert collect_static_files(root)
    assert not first.exists()
    assert len(list(root.glob("style.????????????.css"))) == 2


def test_reference_to_a_missing_file_is_an_error(sources: Path, tmp_path: Path) -> None:
    (sources / "page.js").write_text('import "./nowhere.js";\n')
    root = tmp_path / "root"
    with pytest.raises(StaticFilesError, match=r"collected into .*root: page\.js: .*nowhere\.js"):
        collect_static_files(root)
    assert list(root.iterdir()) == []
    free = {"MAHAVISHNU_PORT": free_port(), "MAHAVISHNU_EMBEDS_VALKEY": False}
    with override_settings(MAHAVISHNU_STATIC_DIR=root, **free), pytest.raises(CommandError, match=r"nowhere\.js"):
        call_command("serve")


def test_folder_that_cannot_be_written_to_is_an_error(sources: Path, tmp_path: Path) -> None:
    (sources / "style.css").write_text("p { color: red }")
    (tmp_path / "file").touch()
    with pytest.raises(StaticFilesError, match="Not a directory"):
        collect_static_files(tmp_path / "file" / "root")


def test_folder_in_which_others_may_replace_scripts_is_an_error(sources: Path, tmp_path: Path) -> None:
    (sources / "style.css").write_text("p { color: red }")
    root = tmp_path / "root"
    assert collect_static_files(root)
    root.chmod(0o777)
    with pytest.raises(StaticFilesError, match="can be written to by other users"):
        collect_static_files(root)


def test_processes_that_collect_at_once_leave_a_complete_folder(sources: Path, tmp_path: Path) -> None:
    for number in range(20):
        (sources / f"{number}.js").write_text(f"export const number = {number};\n")
    root = tmp_path / "root"
    with ThreadPoolExecutor(4) as threads:
        assert any(threads.map(collect_static_files, [root] * 4))
    assert not collect_static_files(root)
    names = {path.name for path in root.iterdir()}
    manifest = json.loads((root / "staticfiles.json").read_text())["paths"]
    assert len(manifest) == 20
    assert names == {*manifest, *manifest.values(), "staticfiles.json", ".collected"}


def test_file_of_a_later_version_is_found_without_a_restart(start_server: StartServer, tmp_path: Path) -> None:
    folder = tmp_path / "static"
    shutil.copytree(shared_static_files({})["MAHAVISHNU_STATIC_DIR"], folder)
    server = start_server(environment={"MAHAVISHNU_STATIC_DIR": str(folder)})
    path = "/static/later.0123456789ab.js"
    assert Answer(server.port, path).status == 404
    (folder / "later.0123456789ab.js").write_text("export {};")
    found = Answer(server.port, path)
    assert (found.status, found.headers["Cache-Control"]) == (200, IMMUTABLE)
    # Other users of the machine cannot read the folder.
    assert [each for each in folder.rglob("*") if each.stat().st_mode & 0o077 and each.suffix != ".js"] == []
