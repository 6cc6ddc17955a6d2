"""The pages and the API as a site, by Sphinx: README.md first, links as in the repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dmsign_fast import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "dmsign-fast"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "docs/*.md", "docs/api.rst"]
exclude_patterns = [".*", "bench", "build", "csrc", "demo", "src", "tests"]
myst_heading_anchors = 4
napoleon_use_ivar = True
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
autodoc_default_options = {
    "members": True,
    "inherited-members": "DmsignError,Exception,Protocol,tuple",
}
html_theme = "furo"
html_title = f"dmsign-fast {__version__}"
html_copy_source = False
html_show_search_summary = False  # which a browser may not fetch from files

CONTENTS = {  # what stands beside each page
    "Start": ["chain", "keys", "ci", "glossary"],
    "Images": ["images", "verify-images", "registries", "two-steps", "providers", "fleet"],
    "Layers and devices": ["layers", "verity", "signing", "explain", "proofs", "fec", "export"],
    "Nodes": ["node", "ipe", "kernel-compatibility"],
    "More": ["python", "api", "security", "notation-differences", "performance", "architecture"],
}


def add_contents(_: Sphinx, name: str, source: list[str]) -> None:
    """Sphinx wants the contents in its first page; on other sites the README has none."""
    if name == root_doc:
        for caption, pages in CONTENTS.items():
            listed = [f"/docs/{page}" for page in pages]
            listed += ["/CHANGELOG"] if caption == "More" else []
            options = f":hidden:\n:caption: {caption}\n\n"
            source[0] += f"\n```{{toctree}}\n{options}" + "\n".join(listed) + "\n```\n"


def skip_fields(_: Sphinx, kind: str, name: str, value: object, skip: bool, __: object) -> bool:
    """Leave out fields of named tuples, which the class describes."""
    return skip or str(value.__doc__).startswith("Alias for field number")


def open_at_the_readme(app: Sphinx, error: Exception | None) -> None:
    """Write index.html."""
    if error is None:
        page = '<!doctype html>\n<meta http-equiv="refresh" content="0; url=README.html">\n'
        Path(app.outdir, "index.html").write_text(page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what is above; Sphinx calls it."""
    app.connect("source-read", add_contents)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("build-finished", open_at_the_readme)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
