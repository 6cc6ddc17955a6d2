"""`make docs`: pages and API as a site; no warning, no dead link, nothing from elsewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import dom_of, needs_browser
from pages import PAGES

import dmsign_fast

HOME = Path(__file__).parent.parent
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src"}


def build(source, target, *options):
    """As the Makefile does."""
    recipe = re.search(r"^\t\$\(BIN\)/sphinx-build (.*) -c docs \. build/docs$", MAKEFILE, re.M)
    words = (*recipe[1].split(), "-c", HOME / "docs", *options, source, target)
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )


MAKEFILE = (HOME / "Makefile").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    done = build(HOME, target)
    assert (done.returncode, done.stderr) == (0, "")
    return target


class Page(HTMLParser):
    """What a page links to, what it loads, and where others can link to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        said = dict(attributes)
        if "id" in said:
            self.anchors.add(said["id"])
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        if tag == "link" and said.get("rel") in ("index", "search", "next", "prev", "canonical"):
            self.links.append(said["href"])
        elif LOADED.get(tag) in said:
            self.loaded.append(said[LOADED[tag]])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_no_link_within_the_site_is_dead(site, pages):
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.is_file() or (
                parts.fragment and known and unquote(parts.fragment) not in known.anchors
            ):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        assert page.loaded or path.name == "index.html"
        for link in page.loaded:
            parts = urlsplit(link)
            assert not parts.scheme, f"{path.relative_to(site)} loads {link}"
            assert not parts.netloc, f"{path.relative_to(site)} loads {link}"
            assert (path.parent / unquote(parts.path)).is_file()
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_every_page_is_in_the_contents(site, pages):
    listed = {
        (site / "README.html").parent / urlsplit(link).path
        for link in pages[site / "README.html"].links
    }
    wanted = {site / Path(name).with_suffix(".html") for name in PAGES if name != "README.md"}
    assert wanted | {site / "docs/api.html", site / "CHANGELOG.html"} <= listed


def test_the_api_has_every_public_name(site, pages):
    anchors = pages[site / "docs/api.html"].anchors
    missing = [name for name in dmsign_fast.__all__ if f"dmsign_fast.{name}" not in anchors]
    assert missing == []


@pytest.mark.parametrize(
    ("link", "said"),
    [("[x](docs/nowhere.md)", "docs/nowhere.md"), ("[x](#nowhere)", "nowhere")],
)
def test_a_dead_link_fails(tmp_path, link, said):
    (tmp_path / "README.md").write_text(f"# Title\n\n{link}\n")
    done = build(tmp_path, tmp_path / "site", "-D", "include_patterns=README.md")
    assert done.returncode == 1
    assert re.search(rf"README.md:3: WARNING: .*'{said}'", done.stderr), done.stderr


@needs_browser
def test_a_browser_shows_it(site, tmp_path):
    shown, console = dom_of(site / "README.html", "", tmp_path)
    assert console == []
    assert "<h1>dmsign-fast" in shown
    assert re.search(r'class="caption-text">Nodes<', shown)
    assert re.search(r"<th[^>]*><p>times as fast</p>", shown)
    shown, console = dom_of(site / "docs/api.html", "#dmsign_fast.hash_layer", tmp_path)
    assert console == []
    assert "Read a layer to its end" in shown
    assert 'href="../README.html"' in shown


@needs_browser
def test_the_search_of_the_site_needs_no_server(site, tmp_path):
    shown, console = dom_of(site / "search.html", "?q=osguard", tmp_path)
    assert console == []
    assert 'href="docs/glossary.html' in shown
