"""The page of an explanation: a map of the device, the files affected, the paths of digests."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["explain_page"]

# All text goes in by textContent: names are strangers'.
_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>@TITLE@</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color: #1d2329; background: #fff; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .5rem; border-bottom: 1px solid #e3e8ec;
  vertical-align: top; overflow-wrap: anywhere }
code { font-size: .85em }
#map { display: grid; grid-template-columns: repeat(64, 1fr); gap: 1px }
#map i { aspect-ratio: 1; border-radius: 2px; background: #e3e8ec }
i.data { background: #8fb4d9 !important } i.metadata { background: #2f6fb3 !important }
i.bad { background: #c8281f !important }
#legend span { margin-right: 1.2rem } #legend i { display: inline-block; width: .8rem;
  height: .8rem; margin-right: .3rem; background: #e3e8ec }
.bad-text { color: #a1201b } .note { color: #5a6672 }
@media (prefers-color-scheme: dark) {
  body { color: #e4e8ec; background: #15191d } th, td { border-color: #343c44 }
  .bad-text { color: #ff8d85 } .note { color: #9aa6b1 }
  #map i, #legend i { background: #343c44 }
}
</style>
<h1>@TITLE@</h1>
<p class="note" id="about"></p>
<h2>The device</h2>
<div id="map"></div>
<p id="legend"></p>
<h2 id="files-title">Files</h2><table id="files"></table>
<h2>Blocks</h2><table id="places"></table>
<h2 id="paths-title">From the block to the root hash</h2><div id="paths"></div>
<script>
"use strict";
const data = @DATA@;
const byId = id => document.getElementById(id);
function make(name, text, parent, style) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (style) element.className = style;
  if (parent) parent.append(element);
  return element;
}
byId("about").textContent = `${data.size} bytes, ` +
  (data.problem || `EROFS, ${data.layout}`) + `; ${data.verdict}`;
if (data.whose) byId("about").after(make("p", data.whose));
const names = { data: "data of files", metadata: "metadata and tar headers",
  "": "hole or padding", bad: data.marked };
for (const [style, name] of Object.entries(names)) {
  const span = make("span", undefined, byId("legend"));
  make("i", undefined, span, style);
  span.append(name);
}
data.cells.forEach(([style, title], number) => {
  const cell = make("i", undefined, byId("map"), style);
  cell.title = `bytes ${number * data.step}-` +
    `${Math.min(data.size, (number + 1) * data.step) - 1}: ${title}`;
});
const paths = new Map();
for (const place of data.places)
  if (place.path !== null) {
    const seen = paths.get(place.path) || { bytes: 0, kinds: new Set() };
    seen.bytes += place.size;
    seen.kinds.add(place.kind);
    paths.set(place.path, seen);
  }
byId("files-title").textContent = paths.size ? `Files affected: ${paths.size}` : "No file affected";
for (const [path, seen] of paths) {
  const row = make("tr", undefined, byId("files"));
  make("code", path, make("td", undefined, row));
  make("td", [...seen.kinds].join(", "), row);
  make("td", `${seen.bytes} bytes`, row);
}
for (const place of data.places) {
  const row = make("tr", undefined, byId("places"));
  make("td", `bytes ${place.offset}-${place.offset + place.size - 1}`, row);
  make("td", place.kind, row);
  make("code", place.path === null ? "" : place.path, make("td", undefined, row));
  make("td", place.file_offset === null ? place.problem || "" :
    `from byte ${place.file_offset} of the file`, row);
}
if (!data.paths.length) byId("paths-title").textContent = "No hash tree was given";
for (const { block, steps } of data.paths) {
  make("h3", `Data block ${block}`, byId("paths"));
  const table = make("table", undefined, byId("paths"));
  for (const step of steps) {
    const good = step.computed === step.wanted;
    const row = make("tr", undefined, table, good ? "" : "bad-text");
    make("td", step.level === null ? `data block ${step.block}` :
      `hash block ${step.block} of level ${step.level}`, row);
    make("td", `byte ${step.offset}`, row);
    const digests = make("td", undefined, row);
    make("code", step.computed, make("div", good ? "" : "is ", digests));
    if (!good) make("code", step.wanted, make("div", "should be ", digests));
  }
}
if (data.left_out)
  make("caption", `${data.left_out} more places: --output json has all`, byId("places"), "note");
</script>
</html>
"""


def explain_page(title: str, data: Mapping[str, Any]) -> bytes:
    """One page that needs no network; whatever strangers called their files stays text."""
    text = json.dumps(data, separators=(",", ":"))
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    shown = html.escape(title).encode("utf-8", "backslashreplace").decode()
    return _PAGE.replace("@TITLE@", shown).replace("@DATA@", text, 1).encode()
