"""The page of a report: its style and the script that shows, sorts and filters."""

__all__ = ["PAGE"]

# What is sorted by and filtered for stands in the fragment (#sort=...&filter=...), so that a view
# can be sent to somebody. All text goes in by textContent: names are strangers'.
PAGE = """\
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
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem }
dl div { border: 1px solid #d5dbe1; border-radius: 6px; padding: .6rem .8rem }
dt { color: #5a6672; font-size: .85rem } dd { margin: 0; font-size: 1.25rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .5rem; border-bottom: 1px solid #e3e8ec;
  vertical-align: top; overflow-wrap: anywhere }
th { white-space: nowrap } th button { font: inherit; font-weight: 600; border: 0; padding: 0;
  background: none; cursor: pointer; color: inherit }
code { font-size: .85em } input { font: inherit; padding: .3rem .5rem; width: 22rem;
  max-width: 100% }
.bar { display: grid; grid-template-columns: 11rem 1fr 8rem; gap: .6rem; align-items: center }
.bar i { display: block; height: 1rem; background: #2f6fb3; border-radius: 3px; min-width: 1px }
.failed { color: #a1201b } .note { color: #5a6672 }
@media (prefers-color-scheme: dark) {
  body { color: #e4e8ec; background: #15191d } dl div, th, td { border-color: #343c44 }
  .failed { color: #ff8d85 } .note, dt { color: #9aa6b1 } .bar i { background: #6aa7e8 }
}
</style>
<h1>@TITLE@</h1>
<p class="note" id="when"></p>
<dl id="totals"></dl>
<h2>Time</h2><div id="time"></div>
<h2>Bytes</h2><div id="bytes"></div>
<h2 id="failures-title">Failures</h2><table id="failures"></table>
<h2>Images</h2>
<p><label>Filter: <input id="filter" type="search" placeholder="name, digest, state, root hash">
</label> <span class="note" id="shown"></span></p>
<table><thead><tr id="heads"></tr></thead><tbody id="images"></tbody></table>
<script>
"use strict";
const data = @DATA@;
const images = [@IMAGES@];
const MOST = 2000;
const byId = id => document.getElementById(id);
function make(name, text, parent) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}
function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  while (bytes >= 1000 && at < units.length - 1) { bytes /= 1000; at += 1; }
  return `${bytes.toFixed(at && bytes < 100 ? 1 : 0)} ${units[at]}`;
}
function bars(id, rows, show) {
  const most = Math.max(...rows.map(row => row[1]), 1e-9);
  for (const [name, value] of rows) {
    const bar = make("div", undefined, byId(id));
    bar.className = "bar";
    make("span", name, bar);
    make("i", undefined, bar).style.width = `${100 * value / most}%`;
    make("span", show(value), bar);
  }
}
const { summary, layers } = data;
const seconds = value => `${value.toFixed(1)} s`;
const total = summary.ended ? summary.ended - summary.began : null;
byId("when").textContent = `dmsign-fast ${data.version}; begun ` +
  new Date(1000 * summary.began).toISOString() +
  (total === null ? "; not finished" : `; took ${seconds(total)}`);
const totals = [
  ...Object.entries(summary.images).filter(([, number]) => number)
    .map(([name, number]) => [`images: ${name}`, number]),
  ["references that failed", summary.references.failed],
  ["different layers", summary.layers.distinct],
  ["different layers, bytes", size(summary.bytes.distinct)],
  ["layers of all images, bytes", size(summary.bytes.listed)],
];
for (const [name, value] of totals) {
  const box = make("div", undefined, byId("totals"));
  make("dt", name, box);
  make("dd", value, box);
}
bars("time", [
  ["hashing, all workers", Object.values(layers).reduce((sum, one) => sum + one.seconds, 0)],
  ["signing and pushing", images.reduce((sum, one) => sum + (one[4] || 0), 0)],
  ...(total === null ? [] : [["the whole run", total]]),
], seconds);
bars("bytes", [
  ["listed by all images", summary.bytes.listed],
  ["read once", summary.bytes.distinct],
  ["saved by sharing", summary.bytes.listed - summary.bytes.distinct],
], size);
if (data.failures.length) {
  for (const failure of data.failures) {
    const row = make("tr", undefined, byId("failures"));
    make("td", failure.reference, row);
    make("td", failure.reason, row).className = "failed";
    make("code", failure.command, make("td", undefined, row));
  }
} else byId("failures-title").textContent = "No failures";
const rows = images.map(([reference, manifest, state, ids, took, reason]) => {
  const bytes = ids.reduce((sum, id) => sum + layers[id].size, 0);
  const roots = ids.flatMap(id => Object.entries(layers[id].roots));
  return { reference, manifest, state, layers: ids.length, bytes, took: took || 0, reason, roots,
    text: [reference, manifest, state, reason, ...roots.map(root => root[1])]
      .join(" ").toLowerCase() };
});
const columns = [["reference", "image"], ["state", "state"], ["layers", "layers"],
  ["bytes", "bytes"], ["took", "seconds"]];
const view = { sort: "", down: false, filter: "" };
function show() {
  let found = rows.filter(row => row.text.includes(view.filter.toLowerCase()));
  if (view.sort) {
    const key = view.sort, way = view.down ? -1 : 1;
    found = found.slice().sort((a, b) => way *
      (typeof a[key] === "number" ? a[key] - b[key] : a[key] < b[key] ? -1 : a[key] > b[key]));
  }
  const body = byId("images");
  body.replaceChildren();
  for (const row of found.slice(0, MOST)) {
    const line = make("tr", undefined, body);
    const first = make("td", undefined, line);
    const details = make("details", undefined, first);
    make("summary", row.reference, details);
    make("code", row.manifest, make("div", undefined, details));
    for (const [recipe, root] of row.roots)
      make("code", `${root} ${recipe}`, make("div", undefined, details));
    const state = make("td", row.state, line);
    if (row.reason) { state.className = "failed"; state.title = row.reason; }
    make("td", row.layers, line);
    make("td", size(row.bytes), line);
    make("td", row.took.toFixed(2), line);
  }
  byId("shown").textContent = `${found.length} of ${rows.length}` +
    (found.length > MOST ? `, the first ${MOST} shown` : "");
}
function remember() {
  const words = new URLSearchParams();
  for (const name of ["sort", "filter"]) if (view[name]) words.set(name, view[name]);
  if (view.down) words.set("down", "1");
  history.replaceState(null, "", `#${words}`);
}
for (const [key, name] of columns) {
  const button = make("button", name, make("th", undefined, byId("heads")));
  button.addEventListener("click", () => {
    view.down = view.sort === key && !view.down;
    view.sort = key;
    remember();
    show();
  });
}
function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  view.sort = columns.some(([key]) => key === words.get("sort")) ? words.get("sort") : "";
  view.down = words.has("down");
  view.filter = byId("filter").value = words.get("filter") || "";
  show();
}
byId("filter").addEventListener("input", event => {
  view.filter = event.target.value;
  remember();
  show();
});
addEventListener("hashchange", recall);
recall();
</script>
</html>
"""
