"use strict";
// Reads the inlined data and draws the table, the details and the plots. Text only ever enters the
// page through textContent or setAttribute, so a dictionary's name cannot become markup.

const data = JSON.parse(document.getElementById("data").textContent);
const AXES = Object.entries(data.axes);
const FIRST_ROWS = 60;

// ---- reading ------------------------------------------------------------------------------

function readSeries([index, values, cis, bounds, reason]) {
  const [axis, name, attribute, edit, ks, direction] = data.series[index];
  return { axis, name, attribute, edit, ks, direction, reason, values, cis, bounds };
}

const rows = data.rows.map((row, index) => ({ ...row, index, board: data.boards[row.board] }));

// ---- small tools --------------------------------------------------------------------------

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  node.append(...children.filter((child) => child != null));
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  node.append(...children.filter((child) => child != null));
  return node;
}

function number(x, digits = 3) {
  if (x == null) return "–";
  const shown = Math.abs(x) >= 100 ? x.toFixed(0) : x.toFixed(digits);
  return Number(shown) === 0 ? (0).toFixed(digits) : shown.replace("-", "−");
}
const interval = (ci) => (ci ? `${number(ci[0])} to ${number(ci[1])}` : "");
const rankText = (rank) => (!rank ? "–" : rank[1] < rank[2] ? `${rank[1]}–${rank[2]}` : `${rank[0]}`);
const clamp = (x) => Math.min(1, Math.max(0, x));
const unique = (values) => [...new Set(values)];

// ---- state --------------------------------------------------------------------------------

const FILTERS = [
  ["task", "Task", (row) => row.board.task],
  ["model", "Model", (row) => row.board.model],
  ["site", "Site", (row) => row.board.site],
  ["budget", "Budget", (row) => row.board.budget],
  ["architecture", "Architecture", (row) => row.architecture ?? "unknown"],
  ["band", "L0", (row) => row.band],
  ["width", "Width", (row) => String(row.d_sae)],
];
// Reference rows have no architecture or sparsity of their own: those filters leave them alone.
const ABOUT_SAES = new Set(["architecture", "band", "width"]);
const COLUMNS = [
  ["rank", "Rank", (row) => row.ranks[AXES.length]?.[0] ?? null, false],
  ["name", "Dictionary", (row) => row.name.toLowerCase(), false],
  ["l0", "L0", (row) => row.l0, false],
  ["width", "Width", (row) => row.d_sae, false],
  ...AXES.map(([key, title], i) => [key, title, (row) => row.axes[i].normalized, true]),
  ["mean", "Mean", (row) => row.mean, true],
];
const state = { filters: {}, search: "", sort: "mean", descending: true, limit: FIRST_ROWS, open: new Set() };

function visible() {
  const needle = state.search.toLowerCase();
  return rows.filter((row) =>
    FILTERS.every(([key, , read]) => !state.filters[key] || (ABOUT_SAES.has(key) && row.kind !== "sae") || read(row) === state.filters[key]) &&
    (!needle || `${row.name} ${row.source} ${row.architecture ?? ""}`.toLowerCase().includes(needle)));
}

function sorted(found) {
  const read = COLUMNS.find(([key]) => key === state.sort)[2];
  const sign = state.descending ? -1 : 1;
  // what is undefined stands last in either direction
  return found.map((row) => [read(row), row]).sort(([a, x], [b, y]) => {
    if (a == null || b == null) return (a == null) - (b == null) || x.index - y.index;
    return (a < b ? -sign : a > b ? sign : 0) || x.index - y.index;
  }).map(([, row]) => row);
}

// ---- filters ------------------------------------------------------------------------------

function order(a, b) {
  const x = parseFloat(a), y = parseFloat(b);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
}

function buildFilters() {
  const form = document.getElementById("filters");
  for (const [key, title, read] of FILTERS) {
    const pool = ABOUT_SAES.has(key) ? rows.filter((row) => row.kind === "sae") : rows;
    const values = unique(pool.map(read)).sort(order);
    if (values.length < 2) continue;
    const select = el("select", { id: `filter-${key}` }, new Option("all", ""), ...values.map((value) => new Option(value.length > 60 ? value.slice(0, 59) + "…" : value, value)));
    if (key === "task") select.value = state.filters.task = rows[0].board.task;
    select.addEventListener("change", () => { state.filters[key] = select.value; state.limit = FIRST_ROWS; draw(); });
    form.append(el("label", {}, title, select));
  }
  const sort = el("select", { id: "sort-by" }, ...COLUMNS.map(([key, title]) => new Option(title, key)));
  sort.value = state.sort;
  sort.addEventListener("change", () => sortBy(sort.value));
  form.append(el("label", { class: "sort-by" }, "Sort by", sort));
  const search = el("input", { type: "search", id: "search", placeholder: "name or source" });
  search.addEventListener("input", () => { state.search = search.value; state.limit = FIRST_ROWS; draw(); });
  form.append(el("label", { class: "wide" }, "Find", search));
  const raw = el("input", { type: "checkbox", id: "raw" });
  raw.addEventListener("change", () => document.body.classList.toggle("show-raw", raw.checked));
  form.append(el("label", { class: "check" }, raw, "raw value, floor and ceiling"));
  form.addEventListener("submit", (event) => event.preventDefault());
}

// ---- table --------------------------------------------------------------------------------

function axisCell(row, i) {
  const axis = row.axes[i], title = AXES[i][1], kind = row.board.greyed.includes(i) ? "axis greyed" : "axis";
  const raw = el("span", { class: "raw" }, axis.value == null ? "" : `${number(axis.value)} in ${number(axis.floor)} … ${number(axis.ceiling)}`);
  if (axis.normalized == null) {
    return el("td", { class: kind, "data-label": title, title: axis.reason }, el("span", { class: "undefined" }, "undefined"), raw);
  }
  const [low, high] = axis.ci ?? [axis.normalized, axis.normalized];
  const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("i"), el("b"));
  for (const [name, at] of [["--low", low], ["--high", high], ["--at", axis.normalized]]) bar.style.setProperty(name, `${(100 * clamp(at)).toFixed(1)}%`);
  const rank = row.ranks[i];
  const hover = `${title}: raw ${number(axis.value)}, floor ${number(axis.floor)}, ceiling ${number(axis.ceiling)}, n = ${axis.n}${rank ? `, rank ${rankText(rank)}` : ""}`;
  return el("td", { class: kind, "data-label": title, title: hover }, el("span", { class: "value" }, number(axis.normalized)), el("span", { class: "ci" }, interval(axis.ci)), bar, raw);
}

const made = new Map();
function rowNode(row) {
  if (made.has(row)) return made.get(row);
  const button = el("button", { type: "button", "aria-expanded": "false" }, el("bdi", {}, row.name));
  const node = el("tr", { class: "row" },
    el("td", { class: "rank", "data-label": "Rank" }, rankText(row.ranks[AXES.length])),
    el("th", { class: "name", scope: "row" }, button, el("span", { class: "sub" }, row.architecture ?? "", el("span", { class: "where" }, `${row.architecture ? " · " : ""}${row.board.title}${row.board.older ? " · earlier version of the scores" : ""}`))),
    el("td", { "data-label": "L0" }, row.l0 == null ? "–" : row.l0.toFixed(1)),
    el("td", { "data-label": "Width" }, String(row.d_sae)),
    ...AXES.map((_, i) => axisCell(row, i)),
    el("td", { "data-label": "Mean" }, el("span", { class: "value" }, number(row.mean))));
  button.addEventListener("click", () => toggle(row, node, button));
  made.set(row, node);
  return node;
}

function toggle(row, node, button) {
  const opening = !state.open.has(row);
  state.open[opening ? "add" : "delete"](row);
  button.setAttribute("aria-expanded", String(opening));
  node.classList.toggle("open", opening);
  if (opening) node.after(detailNode(row));
  else node.nextElementSibling.remove();
}

function sortBy(key) {
  const column = COLUMNS.find(([name]) => name === key);
  state.descending = state.sort === key ? !state.descending : column[3];
  state.sort = key;
  document.getElementById("sort-by").value = key;
  drawTable();
}

function buildHead() {
  return el("thead", {}, el("tr", {}, ...COLUMNS.map(([key, title]) => {
    const button = el("button", { type: "button", "data-key": key }, title, el("i", { "aria-hidden": "true" }));
    button.addEventListener("click", () => sortBy(key));
    return el("th", { scope: "col", "data-key": key }, button);
  })));
}

let shown = [];
const board = el("table", { class: "board" }, buildHead());
const more = el("button", { type: "button", class: "plain more" });
more.addEventListener("click", () => { state.limit = Infinity; drawTable(); });
document.getElementById("table").append(board, more);

function drawTable() {
  for (const head of board.tHead.rows[0].cells) {
    const active = head.dataset.key === state.sort;
    if (active) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
    head.querySelector("i").textContent = active ? (state.descending ? "▼" : "▲") : "";
  }
  const bodies = [];
  let hidden = 0;
  for (const [kind, title] of Object.entries(data.kinds)) {
    const group = sorted(shown.filter((row) => row.kind === kind));
    if (!group.length) continue;
    const body = el("tbody", { class: kind }, el("tr", {}, el("th", { class: "kind", colspan: COLUMNS.length, scope: "colgroup" }, title, el("span", {}, ` · ${group.length}`))));
    for (const row of group.slice(0, state.limit)) {
      body.append(rowNode(row));
      if (state.open.has(row)) body.append(detailNode(row));
    }
    hidden += Math.max(0, group.length - state.limit);
    bodies.push(body);
  }
  if (!bodies.length) bodies.push(el("tbody", {}, el("tr", {}, el("td", { class: "empty", colspan: COLUMNS.length }, rows.length ? "Nothing matches these filters." : "There are no results yet."))));
  for (const body of [...board.tBodies]) body.remove();
  board.append(...bodies);
  more.hidden = !hidden;
  more.textContent = `Show ${hidden} more`;
}

// ---- charts -------------------------------------------------------------------------------

const W = 260, H = 170, LEFT = 34, RIGHT = 10, TOP = 8, BOTTOM = 30;
const SHAPES = [
  "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", "M-3.6 -3.6h7.2v7.2h-7.2z", "M0 -4.8l4.6 8h-9.2z", "M0 -5l5 5l-5 5l-5 -5z",
  "M0 4.8l4.6 -8h-9.2z", "M-1.5 -4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z", "M-4 -2.5l1.5 -1.5l2.5 2.5l2.5 -2.5l1.5 1.5l-2.5 2.5l2.5 2.5l-1.5 1.5l-2.5 -2.5l-2.5 2.5l-1.5 -1.5l2.5 -2.5z",
];
const mark = (i, x, y, extra = {}) => svg("path", { d: SHAPES[i % 7], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, class: `c${i % 7}`, ...extra });

function scale(values, low, high, logarithmic) {
  const f = logarithmic ? Math.log2 : (x) => x;
  let a = f(Math.min(...values)), b = f(Math.max(...values));
  if (a === b) { a -= 0.5; b += 0.5; }
  return (x) => low + ((f(x) - a) / (b - a)) * (high - low);
}

function frame(label, { xs, ys, logarithmic, xTicks, xTitle }) {
  const x = scale(xs, LEFT + 6, W - RIGHT - 4, logarithmic);
  const y = scale(ys, H - BOTTOM, TOP, false);
  const root = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label });
  for (const tick of yTicks(ys)) {
    root.append(svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(tick), y2: y(tick) }), svg("text", { x: LEFT - 5, y: y(tick) + 4, "text-anchor": "end" }, number(tick, tick % 1 ? (tick * 10) % 1 ? 2 : 1 : 0)));
  }
  for (const tick of xTicks) root.append(svg("text", { x: x(tick), y: H - BOTTOM + 14, "text-anchor": "middle" }, String(tick)));
  root.append(svg("text", { x: (LEFT + W - RIGHT) / 2, y: H - 3, "text-anchor": "middle" }, xTitle));
  return { root, x, y };
}

function yTicks(ys) {
  const low = Math.min(...ys), high = Math.max(...ys);
  const step = [0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000].find((s) => (high - low) / s <= 5) ?? (high - low) / 4;
  const ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9; t += step) ticks.push(Math.round(t * 1000) / 1000);
  return ticks;
}

// Curves of one score over k, one line an attribute, told apart by colour, shape and a label.
function curves(title, group) {
  const points = group.flatMap((s) => s.values.flatMap((v, i) => (v == null ? [] : [v, ...(s.cis[i] ?? [])])));
  const bounds = group.flatMap((s) => s.bounds).filter((b) => b != null);
  const ks = unique(group.flatMap((s) => s.ks)).sort((a, b) => a - b);
  const logarithmic = ks[0] > 0;
  const { root, x, y } = frame(title, { xs: ks, ys: [0, 1, ...points, ...bounds], logarithmic, xTicks: ks, xTitle: logarithmic ? "edit size k" : "% of the strong attribute taken away" });
  group.forEach((s, c) => {
    for (const bound of unique(s.bounds.filter((b) => b != null))) root.append(svg("line", { class: `bound c${c % 7}`, x1: LEFT, x2: W - RIGHT, y1: y(bound), y2: y(bound) }));
    const at = s.ks.map((k, i) => [x(k), s.values[i], s.cis[i]]).filter(([, v]) => v != null);
    root.append(svg("polyline", { class: `line c${c % 7}`, points: at.map(([px, v]) => `${px.toFixed(1)},${y(v).toFixed(1)}`).join(" ") }));
    for (const [px, v, ci] of at) {
      if (ci) root.append(svg("line", { class: `arm c${c % 7}`, x1: px, x2: px, y1: y(ci[0]), y2: y(ci[1]) }));
      root.append(mark(c, px, y(v)));
    }
  });
  return panel(title, [el("div", { class: "legend" }, ...group.map((s, c) => key(c, s.attribute ?? "all"))), root, el("p", {}, [bounds.length && "dashed: floor and ceiling", group[0].edit === "aware" && "an aware edit changes up to 2k latents"].filter(Boolean).join("; "))]);
}

function key(i, label) {
  return el("span", {}, svg("svg", { viewBox: "-7 -7 14 14", "aria-hidden": "true" }, mark(i, 0, 0)), el("bdi", {}, label));
}
const panel = (title, children) => el("figure", { class: "panel" }, el("h3", {}, title), ...children);

// Single numbers between 0 and 1 as points with intervals, one line each.
function dots(title, group) {
  const height = 26 + 20 * group.length, low = Math.min(0, ...group.flatMap((s) => [s.values[0], ...(s.cis[0] ?? [])]));
  const x = scale([low, 1, ...group.flatMap((s) => [s.values[0], ...(s.cis[0] ?? [])])], 132, W - 12, false);
  const root = svg("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": title });
  for (const tick of [0, 0.5, 1]) {
    root.append(svg("line", { class: "grid", x1: x(tick), x2: x(tick), y1: 4, y2: height - 20 }), svg("text", { x: x(tick), y: height - 6, "text-anchor": "middle" }, String(tick)));
  }
  group.forEach((s, i) => {
    const at = 16 + 20 * i, ci = s.cis[0], label = [s.name, s.attribute, s.edit].filter(Boolean).join(" · ");
    root.append(svg("text", { class: "strong", x: 126, y: at + 4, "text-anchor": "end" }, svg("title", {}, label), label.length > 23 ? label.slice(0, 22) + "…" : label));
    if (ci) root.append(svg("line", { class: "arm c0", x1: x(ci[0]), x2: x(ci[1]), y1: at, y2: at }));
    root.append(mark(0, x(s.values[0]), at));
  });
  return panel(title, [root]);
}

function detailCharts(series) {
  const charts = [];
  const groups = groupBy(series, (s) => `${s.axis}\n${s.name}\n${s.edit ?? ""}`);
  for (const group of groups.values()) {
    const found = group.filter((s) => s.values.some((v) => v != null));
    if (found.length && found.some((s) => s.ks.length > 1)) {
      charts.push(curves(`${found[0].name.replaceAll("_", " ")}${found[0].edit ? `, ${found[0].edit}` : ""}`, found));
    }
  }
  for (const [axis, title] of AXES) {
    // references such as the supervised edit are the dashed lines of the curves
    const single = series.filter((s) => s.axis === axis && s.ks.length === 1 && s.direction === "higher" && s.values[0] != null && Math.abs(s.values[0]) <= 1.5 && !["none", "source", "supervised"].includes(s.edit));
    if (single.length) charts.push(dots(title, single));
  }
  return charts;
}

function groupBy(items, key) {
  const groups = new Map();
  for (const item of items) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}

// ---- detail -------------------------------------------------------------------------------

const details = new Map();
function detailNode(row) {
  if (details.has(row)) return details.get(row);
  const series = row.series.map(readSeries);
  const node = el("tr", { class: "detail" }, el("td", { class: "detail", colspan: COLUMNS.length },
    el("div", { class: "scroll" }, axesTable(row)), el("div", { class: "panels" }, ...detailCharts(series)), series.length ? numbers(series) : null, facts(row)));
  details.set(row, node);
  return node;
}

function axesTable(row) {
  const head = ["axis", "normalised", "95 %", "raw", "95 %", "floor", "ceiling", "n", "rank", ""];
  const body = row.axes.map((axis, i) => [AXES[i][1], number(axis.normalized), interval(axis.ci), number(axis.value), interval(axis.value_ci), number(axis.floor), number(axis.ceiling), axis.n, rankText(row.ranks[i]), [axis.reason && `undefined: ${axis.reason}`, axis.note].filter(Boolean).join("; ")]);
  return grid("axes", head, body);
}

function numbers(series) {
  const body = series.flatMap((s) => s.ks.map((k, i) => [s.axis, s.name, [s.attribute, s.edit].filter(Boolean).join(" · "), k ?? "", number(s.values[i]), interval(s.cis[i]), s.direction === "none" ? "" : s.direction, s.values[i] == null ? s.reason ?? "" : ""]));
  const fold = el("details", {}, el("summary", {}, `All ${body.length} numbers shown here`));
  fold.addEventListener("toggle", () => { if (fold.children.length === 1) fold.append(el("div", { class: "scroll" }, grid("numbers", ["axis", "score", "of", "k", "value", "95 %", "better", ""], body))); });
  return fold;
}

const grid = (name, head, body) => el("table", { class: name },
  el("thead", {}, el("tr", {}, ...head.map((cell) => el("th", { scope: "col" }, cell)))),
  el("tbody", {}, ...body.map((cells) => el("tr", {}, ...cells.map((cell) => el("td", {}, String(cell)))))));

function facts(row) {
  const run = row.run, b = row.board;
  // a path of ours: percent-encode what is not plain, so that it stays a path
  const path = row.path.split("/").map(encodeURIComponent).join("/");
  const links = el("span", {}, el("a", { href: path }, "result (JSON)"), ", ", el("a", { href: path.replace(/\.json$/, ".parquet") }, "outcomes of every prompt (parquet)"));
  const pairs = [
    ["raw", links],
    ["dictionary", `${row.source} · ${row.format} · ${row.architecture ?? "unknown"}${row.saved_as && row.saved_as !== row.architecture ? ` (saved as ${row.saved_as})` : ""} · ${row.d_in} → ${row.d_sae} · seed ${row.seed ?? "unknown"} · sha256 ${row.sha256}`],
    ["task", `${b.task} version ${b.version}, ${b.task_sha256}; ${b.n.fit} fit, ${b.n.select} select, ${b.n.test} test prompts${b.accuracy == null ? "" : `; the model is right on ${(100 * b.accuracy).toFixed(1)} %`}`],
    ["model", `${b.model}, ${b.model_sha256}, at ${b.site}`],
    ["run", `${row.created}, budget ${b.budget}, seed ${b.seed}, ${run.device}, ${run.dtype}, ${run.seconds} s, ${run.memory} MB`],
    ["command", el("code", {}, run.command)],
    ["software", `saebench ${run.saebench}, commit ${run.commit ?? "unknown"}${run.dirty ? " with local changes" : ""}; ${Object.entries(run.versions).map((pair) => pair.join(" ")).join(", ")}`],
    ...row.warnings.map((warning) => ["warning", warning]),
  ];
  return el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

// ---- sparsity against each axis -----------------------------------------------------------

function drawPareto() {
  const saes = shown.filter((row) => row.kind === "sae" && row.l0 > 0);
  const kinds = unique(saes.map((row) => row.architecture ?? "unknown")).sort();
  document.getElementById("legend").replaceChildren(...kinds.map((name, i) => key(i, name)));
  document.getElementById("pareto").replaceChildren(...AXES.map(([, title], i) => pareto(title, i, saes, kinds)));
}

function pareto(title, i, saes, kinds) {
  const points = saes.filter((row) => row.axes[i].normalized != null).sort((a, b) => a.l0 - b.l0);
  if (!points.length) return panel(title, [el("p", {}, "No SAE with a defined score.")]);
  const ys = points.flatMap((row) => [row.axes[i].normalized, ...(row.axes[i].ci ?? [])]);
  const xs = points.map((row) => row.l0);
  const ticks = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024].filter((t) => t >= Math.min(...xs) * 0.99 && t <= Math.max(...xs) * 1.01);
  const { root, x, y } = frame(`${title} against L0`, { xs, ys: [0, 1, ...ys], logarithmic: true, xTicks: ticks, xTitle: "L0" });
  for (const level of [0, 1]) root.append(svg("line", { class: "bound", x1: LEFT, x2: W - RIGHT, y1: y(level), y2: y(level) }));
  let best = -Infinity;
  const edge = points.filter((row) => row.axes[i].normalized > best && ((best = row.axes[i].normalized), true));
  root.append(svg("polyline", { class: "edge", points: edge.map((row) => `${x(row.l0).toFixed(1)},${y(row.axes[i].normalized).toFixed(1)}`).join(" ") }));
  for (const row of points) {
    const axis = row.axes[i], c = kinds.indexOf(row.architecture ?? "unknown");
    const hover = svg("title", {}, `${row.name}: ${number(axis.normalized)} (${interval(axis.ci)}) at L0 ${row.l0.toFixed(1)}`);
    if (axis.ci && points.length <= 60) root.append(svg("line", { class: `arm c${c % 7}`, x1: x(row.l0), x2: x(row.l0), y1: y(axis.ci[0]), y2: y(axis.ci[1]) }));
    const point = mark(c, x(row.l0), y(axis.normalized));
    point.append(hover);
    root.append(point);
  }
  return panel(title, [root]);
}

// ---- start --------------------------------------------------------------------------------

function draw() {
  shown = visible();
  const boards = unique(shown.map((row) => row.board));
  document.body.classList.toggle("one-board", boards.length === 1);
  const about = document.getElementById("about");
  about.textContent = boards.length === 1
    ? `${boards[0].title} · budget ${boards[0].budget} · ${boards[0].n.test} test prompts${boards[0].accuracy == null ? "" : ` · the model is right on ${(100 * boards[0].accuracy).toFixed(1)} %`}. ${boards[0].ordered}`
    : `${shown.length} results on ${boards.length} boards; ranks are within each task, model, site and budget.`;
  drawTable();
  drawPareto();
}

if (rows.length) buildFilters();
draw();
