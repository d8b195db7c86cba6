"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { models, tasks, views } = data;
  const one = (id) => document.getElementById(id);
  const [BEST, SEEN, DOUBTED] = [1, 2, 4];

  // ---- elements ----
  const h = (tag, given, ...children) => {
    const made = document.createElement(tag);
    Object.entries(given || {}).forEach(([name, value]) => {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value != null && value !== false) made.setAttribute(name, value === true ? "" : value);
    });
    made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    return made;
  };
  const coded = (text) => text.split("`").map((part, n) => (n % 2 ? h("code", {}, part) : part));
  const tag = (text, loud) => h("span", { class: loud ? "tag loud" : "tag" }, text);
  const named = (m) => [h("span", { class: "name" }, models[m].name), models[m].marks.map((mark) => [" ", tag(mark)])];
  const taskName = (t) => [tasks[t].name, tasks[t].synthetic ? [" ", tag("SYNTHETIC", true)] : null];
  const box = (label, ...inside) => h("div", { class: "box", role: "region", "aria-label": label, tabindex: 0 }, inside);
  const table = (head, rows, right, code = []) => h("table", {},
    h("thead", {}, h("tr", {}, head.map((text, c) => h("th", { scope: "col", class: right.includes(c) && "right" }, text)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((text, c) => (c === 0
      ? h("th", { scope: "row" }, text)
      : h("td", { class: right.includes(c) && "right" }, code.includes(c) ? h("code", {}, text) : text)))))));
  // As Python writes numbers: exact ties go to the even digit.
  const fixed = (value, places) => {
    const large = value * 10 ** places;
    const tie = Math.abs(large % 1) === 0.5 && Math.trunc(large) % 2 === 0;
    return (tie ? Math.trunc(large) / 10 ** places : value).toFixed(places);
  };

  // ---- state: the form, what is sorted and what is pinned, kept in the address ----
  const form = one("controls");
  let sorted = "";
  let pinned = [];
  const distinct = (values) => [...new Set(values)];
  const option = (value, text = value) => h("option", { value }, text);
  const choice = (label, name, values) => h("label", { hidden: values.length < 2 }, label, h("select", { name }, values.map((v) => option(...[v].flat()))));
  const check = (name, value, checked, ...label) => h("label", { class: "check" }, h("input", { type: "checkbox", name, value, checked }), " ", label);
  const kinds = distinct(views.map((view) => view.kind));
  form.append(
    h("label", {}, "Models", h("input", { type: "search", name: "model", placeholder: "parts of names", autocomplete: "off" })),
    choice("Kind of task", "kind", kinds),
    choice("Probe and protocol", "probing", distinct(views.map((view) => view.probing))),
    choice("Condition", "condition", distinct(views.map((view) => view.condition))),
    choice("Intervals of", "column", []),
    choice("Contamination", "saw", [["", "all models"], ["unseen", "without models that saw a ticked task"], ["known", "only models known not to have seen one"]]),
    choice("Licence", "licence", [["", "any"], ...distinct(models.map((model) => model.licence)).sort()]),
    h("label", {}, "Million parameters, at most", h("input", { type: "number", name: "size", min: 0, step: "any" })),
    check("hide", "controls", false, "hide controls"),
    h("fieldset", { hidden: tasks.length < 2 }, h("legend", {}, "Tasks"), tasks.map((task, t) => check("task", task.name, true, taskName(t)))),
    h("button", { type: "button", onclick: () => save() }, "CSV of what is shown"),
    h("button", { type: "button", onclick: () => { form.reset(); [sorted, pinned] = ["", []]; update(); } }, "Reset"),
  );
  const field = (name) => form.elements[name];
  const boxes = [...form.querySelectorAll("[name=task]")];
  const selects = [...form.querySelectorAll("select")];
  const write = () => {
    const said = [...new FormData(form)].filter(([name, value]) => value !== "" &&
      (name === "task" ? boxes.some((b) => !b.checked) : !field(name).options || field(name).selectedIndex > 0));
    if (boxes.length > 1 && boxes.every((b) => !b.checked)) said.push(["task", ""]);
    if (sorted) said.push(["sort", sorted]);
    pinned.forEach((m) => said.push(["pin", models[m].name]));
    const text = said.length ? `#?${new URLSearchParams(said)}` : location.pathname + location.search;
    try { history.replaceState(null, "", text); } catch { /* a viewer without addresses */ }
  };
  const read = () => {
    if (!location.hash.startsWith("#?")) return;
    const said = new URLSearchParams(location.hash.slice(2));
    form.reset();
    said.forEach((value, name) => {
      if (name in form.elements && name !== "task" && name !== "hide") field(name).value = value;
    });
    field("hide").checked = said.has("hide");
    if (said.has("task")) boxes.forEach((b) => { b.checked = said.getAll("task").includes(b.value); });
    selects.forEach((each) => { if (each.selectedIndex < 0) each.selectedIndex = 0; });
    fill();
    if (said.has("column")) field("column").value = said.get("column");
    sorted = said.get("sort") || "";
    pinned = said.getAll("pin").map((name) => models.findIndex((model) => model.name === name)).filter((m) => m >= 0);
  };

  // ---- what the choices give ----
  const ticked = (t) => boxes.length < 2 || boxes[t].checked;
  const view = () => views.find((v) => v.probing === field("probing").value && v.condition === field("condition").value);
  // Options that another choice leaves no result for are taken out of the list.
  const fill = () => {
    const keep = (name, values) => {
      const options = [...field(name).options];
      options.forEach((each) => { each.hidden = each.disabled = !values.includes(each.value); });
      if (field(name).selectedOptions[0]?.disabled) field(name).value = options.find((each) => !each.disabled).value;
    };
    if (!views.length) return;
    keep("probing", views.filter((v) => v.kind === field("kind").value).map((v) => v.probing));
    keep("condition", views.filter((v) => v.probing === field("probing").value).map((v) => v.condition));
    const v = view();
    const before = field("column").value;
    const names = v.tasks.filter(ticked).map((t) => tasks[t].name);
    const listed = v.mean ? ["mean", ...names] : names;
    field("column").replaceChildren(...listed.map((name) => option(name)));
    field("column").parentElement.hidden = listed.length < 2;
    if (listed.includes(before)) field("column").value = before;
    else field("column").selectedIndex = 0;
  };
  // A mean over the ticked tasks; the interval is that of stats/intervals.py, of_mean.
  const meanOf = (v, scores) => {
    const counted = v.tasks.map((t, c) => [t, scores[c]]).filter(([t]) => ticked(t) && !v.without.includes(t));
    if (counted.length < 2 || !counted.every(([, score]) => Array.isArray(score))) return null;
    const half = (end) => {
      const sums = {};
      counted.forEach(([t, score]) => { sums[tasks[t].source] = (sums[tasks[t].source] || 0) + Math.abs(score[end] - score[0]); });
      return Math.hypot(...Object.values(sums)) / counted.length;
    };
    const mean = counted.reduce((sum, [, score]) => sum + score[0], 0) / counted.length;
    const known = counted.every(([, score]) => score[2] !== null);
    const flags = counted.some(([, score]) => score[5] & DOUBTED) ? DOUBTED : 0;
    return [mean, null, known ? mean - half(2) : null, known ? mean + half(3) : null, "", flags];
  };
  const shown = () => {
    const v = view();
    if (!v) return null;
    const columns = v.tasks.map((t, c) => ({ name: tasks[t].name, head: taskName(t), axis: v.axes[c], of: (scores) => scores[c], t })).filter(({ t }) => ticked(t));
    const whole = v.tasks.every((t) => ticked(t) || v.without.includes(t));
    const counted = columns.filter(({ t }) => !v.without.includes(t));
    if (v.mean && whole) columns.push({ name: "mean", head: v.mean, axis: v.axes[v.tasks.length], of: (scores) => scores[v.tasks.length], t: -1 });
    else if (v.mean && counted.length > 1) {
      const lows = counted.map(({ axis }) => axis[0]);
      const highs = counted.map(({ axis }) => axis[1]);
      const axis = [Math.min(...lows), Math.max(...highs), Math.max(...counted.map((column) => column.axis[2]))];
      columns.push({ name: "mean", head: `mean of ${counted.length} ticked tasks`, axis, of: (scores) => meanOf(v, scores), t: -2 });
    }
    const words = field("model").value.toLowerCase().split(",").map((word) => word.trim()).filter(Boolean);
    const [saw, most, licence] = [field("saw").value, field("size").value, field("licence").value];
    const fits = ([m, scores]) => {
      const model = models[m];
      const seen = v.tasks.some((t, c) => ticked(t) && Array.isArray(scores[c]) && scores[c][5] & SEEN);
      return (!words.length || words.some((word) => model.name.toLowerCase().includes(word)))
        && !(field("hide").checked && model.control)
        && !(saw && seen) && !(saw === "known" && model.saw === "not known")
        && (!licence || model.licence === licence)
        && (most === "" || (model.parameters !== null && model.parameters <= 1e6 * most));
    };
    let rows = v.rows.filter(fits).map(([m, scores]) => ({ m, scores: columns.map((column) => column.of(scores)) }));
    const [name, way] = sorted.split(":");
    if (way) {
      const c = columns.findIndex((column) => column.name === name);
      const key = ({ m, scores }) => ({ "": models[m].name, " parameters": models[m].parameters, " speed": models[m].speed?.[0], " saw": models[m].saw, " licence": models[m].licence }[name]
        ?? (Array.isArray(scores[c]) ? scores[c][0] : null));
      const sign = way === "up" ? 1 : -1;
      const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en") : a - b);
      rows = [...rows.filter((row) => key(row) !== null).sort((a, b) => sign * compare(key(a), key(b))), ...rows.filter((row) => key(row) === null)];
    }
    rows = [...rows.filter(({ m }) => pinned.includes(m)), ...rows.filter(({ m }) => !pinned.includes(m))];
    return { v, columns, rows };
  };

  // ---- drawing ----
  const scoreCell = (score, v) => {
    if (typeof score === "string") return h("span", { title: score }, score.split(": ")[0]);
    if (!score) return null;
    const [mean, sd, low, high, letters, flags] = score;
    const text = fixed(mean, v.places);
    return [flags & BEST ? h("strong", {}, text) : text, sd === null ? null : ` ± ${fixed(sd, v.places)}`,
      letters ? [" ", h("sup", {}, letters)] : null,
      flags & DOUBTED ? [" ", tag("not verified", true)] : null, flags & SEEN ? [" ", tag("seen")] : null,
      low === null ? null : h("small", {}, `${fixed(low, v.places)} to ${fixed(high, v.places)}`)];
  };
  const sortable = (name, right, rising, ...label) => {
    const [now, way] = sorted.split(":");
    const first = right && !rising ? "down" : "up";
    const turn = () => {
      const next = now !== name || !way ? first : way === first ? (first === "up" ? "down" : "up") : "";
      sorted = next ? `${name}:${next}` : "";
      update(`th[data-name="${CSS.escape(name)}"] button`);
    };
    const sort = now === name && way ? (way === "up" ? "ascending" : "descending") : null;
    return h("th", { scope: "col", class: right && "right", "data-name": name, "aria-sort": sort }, h("button", { type: "button", onclick: turn }, label));
  };
  const drawScores = ({ v, columns, rows }) => {
    const pin = (m) => h("input", { type: "checkbox", "aria-label": `pin ${models[m].name}`, title: "pin two models to compare them", "data-pin": m, checked: pinned.includes(m), onchange: () => {
      pinned = pinned.includes(m) ? pinned.filter((each) => each !== m) : [...pinned.slice(-1), m];
      update(`[data-pin="${m}"]`);
    } });
    one("scores").replaceChildren(h("table", { class: "board" },
      h("caption", {}, `${v.probing}: ${v.metric}, ${v.condition}; mean ± sd over seeds, below it the 95 % interval`),
      h("thead", {}, h("tr", {}, sortable("", false, true, "model"),
        columns.map((column) => sortable(column.name, true, v.rising, column.head)),
        sortable(" parameters", true, true, "parameters"), sortable(" speed", true, false, "images/s"),
        sortable(" saw", false, true, "seen in pretraining"), sortable(" licence", false, true, "licence of the weights"))),
      h("tbody", {}, rows.map(({ m, scores }) => h("tr", { class: models[m].control ? "control" : null, "data-model": models[m].name },
        h("th", { scope: "row" }, pin(m), " ", named(m)),
        scores.map((score) => h("td", { class: "right" }, scoreCell(score, v))),
        h("td", { class: "right" }, models[m].parameters === null ? null : models[m].parameters.toLocaleString("en")),
        h("td", { class: "right", title: models[m].speed && models[m].speed[2] }, models[m].speed && models[m].speed[1]),
        h("td", {}, models[m].saw), h("td", {}, models[m].licence))))));
  };
  const chosen = (columns) => Math.max(0, columns.findIndex((column) => column.name === field("column").value));
  const drawForest = ({ v, columns, rows }) => {
    const c = chosen(columns);
    const some = rows.filter(({ scores }) => Array.isArray(scores[c]));
    if (!columns.length) return one("forest").replaceChildren();
    const [low, high, step] = columns[c].axis;
    const place = (value) => `${((100 * (value - low)) / (high - low)).toFixed(2)}%`;
    const marks = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, k) => low + k * step);
    const interval = (s) => (s[2] === null ? "" : ` (${fixed(s[2], v.places)} to ${fixed(s[3], v.places)})`);
    one("forest").replaceChildren(h("h2", {}, "95 % intervals: ", columns[c].head),
      h("p", { class: "muted" }, `${v.probing}; ${v.metric}; ${v.condition}. Shaded: controls.`),
      h("table", { class: "forest" }, h("tbody", {},
        some.map(({ m, scores: { [c]: s } }) => h("tr", { class: models[m].control ? "control" : null }, h("th", { scope: "row" }, named(m)),
          h("td", {}, h("div", { class: "track", style: `--grid:${((100 * step) / (high - low)).toFixed(3)}%` },
            s[2] === null ? null : h("i", { style: `left:${place(s[2])};right:calc(100% - ${place(s[3])})` }), h("b", { style: `left:${place(s[0])}` }))),
          h("td", { class: "right" }, fixed(s[0], v.places) + interval(s)))),
        h("tr", { class: "axis" }, h("td"), h("td", {}, h("div", { class: "track" }, marks.map((mark) => h("span", { style: `left:${place(mark)}` }, String(+mark.toPrecision(6)))))), h("td")))));
  };
  const drawCompared = ({ v, columns, rows }) => {
    const [a, b] = pinned.map((m) => rows.find((row) => row.m === m));
    if (!a || !b) return one("compared").replaceChildren();
    const found = v.main ? data.pairs[v.probing] || [] : [];
    const lines = columns.map((column, c) => {
      const [x, y] = [a.scores[c], b.scores[c]];
      if (!Array.isArray(x) || !Array.isArray(y)) return [column.head, "", "", "", ""];
      const pair = found.find(([t, m, n]) => t === column.t && [m, n].includes(a.m) && [m, n].includes(b.m));
      const turned = pair && pair[1] !== a.m;
      const ends = pair && (turned ? [-pair[5], -pair[4]] : [pair[4], pair[5]]);
      const told = !pair ? "not tested" : pair[7] ? "significant" : "not significant";
      const f = (value) => fixed(value, v.places);
      return [column.head, f(x[0]), f(y[0]), `${f(x[0] - y[0])}${ends ? ` (${f(ends[0])} to ${f(ends[1])})` : ""}`,
        pair ? `${told}, p ${pair[6] < 0.001 ? "< 0.001" : `= ${pair[6].toFixed(3)}`}` : told];
    });
    const names = [a, b].map(({ m }) => models[m].name);
    return one("compared").replaceChildren(h("h3", {}, `${names[0]} and ${names[1]}`), box("Comparison of two models", table(
      ["task", ...names, `difference,${v.unit} (95 %)`, "after Holm, 5 %"], lines, [1, 2, 3])));
  };
  // Score against cost. Names have a column beside the points, so that none covers another.
  const costs = {
    parameters: ["parameters of the encoder", (model) => model.parameters],
    "images/s": ["images per second (to the right is cheaper)", (model) => model.speed && model.speed[0]],
  };
  const drawCost = (name, { v, columns, rows }) => {
    const [title, of] = costs[name];
    const c = chosen(columns);
    const known = (row) => Array.isArray(row.scores[c]) && of(models[row.m]) !== null;
    const points = rows.filter(known).map(({ m, scores }) => ({ model: models[m], size: of(models[m]), score: scores[c][0] }));
    const sizes = points.map(({ size }) => size).filter((size) => size > 0);
    if (points.length < 2 || !sizes.length) return [h("p", {}, `Fewer than two models have a score and a number of ${name}.`)];
    const [low, high, step] = columns[c].axis;
    const bottom = Math.max(250, 14 + 15 * points.length);
    const first = Math.floor(Math.log10(Math.min(...sizes)));
    const last = Math.max(first + 1, Math.ceil(Math.log10(Math.max(...sizes))));
    const x = (size) => (size > 0 ? 110 + (280 * (Math.log10(size) - first)) / (last - first) : 66);
    const y = (score) => bottom - ((bottom - 14) * (score - low)) / (high - low);
    points.sort((a, b) => b.score - a.score);
    points.forEach((p, n) => { p.at = Math.max(y(p.score), n ? points[n - 1].at + 15 : 14); });
    points.reduceRight((most, p) => { p.at = Math.min(p.at, most); return p.at - 15; }, bottom);
    const safe = (text) => text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
    const text = (at, down, words, anchor, more = "") => `<text x="${at.toFixed(1)}" y="${down.toFixed(1)}" text-anchor="${anchor}"${more}>${safe(words)}</text>`;
    const line = (colour, ...ends) => `<path d="M${ends[0].toFixed(1)} ${ends[1].toFixed(1)}L${ends[2].toFixed(1)} ${ends[3].toFixed(1)}" stroke="${colour}"/>`;
    const short = (words) => (words.length > 32 ? `${words.slice(0, 15)}…${words.slice(-16)}` : words);
    const tens = Array.from({ length: last - first + 1 }, (_, n) => 10 ** (first + n));
    if (sizes.length < points.length) tens.unshift(0);
    const compact = new Intl.NumberFormat("en", { notation: "compact" });
    const svg = [`<svg xmlns="http://www.w3.org/2000/svg" width="640" height="${bottom + 48}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>`,
      ...Array.from({ length: Math.round((high - low) / step) + 1 }, (_, k) => low + k * step).map((mark) => line("#ddd", 48, y(mark), 400, y(mark)) + text(42, y(mark) + 4, String(+mark.toPrecision(6)), "end")),
      ...tens.map((ten) => line("#666", x(ten), bottom, x(ten), bottom + 5) + text(x(ten), bottom + 18, ten ? compact.format(ten) : "none", "middle")),
      line("#666", 48, bottom, 400, bottom), text(224, bottom + 38, title, "middle"),
      text(11, bottom / 2, v.metric, "middle", ` transform="rotate(-90 11 ${bottom / 2})"`),
      ...points.map((p) => line("#bbb", x(p.size), y(p.score), 426, p.at)),
      ...points.map((p) => `<circle cx="${x(p.size).toFixed(1)}" cy="${y(p.score).toFixed(1)}" r="4.5" fill="${p.model.control ? "#fff" : "#0a5a94"}" stroke="#0a5a94"/>${text(430, p.at + 4, short(p.model.name), "start")}`), "</svg>"].join("");
    const lacking = rows.filter((row) => !known(row)).map(({ m }) => models[m].name);
    const where = name === "images/s" ? distinct(points.map((p) => p.model.speed[2])).join("; ") : "";
    const alt = `${v.title} and ${name}, ${v.probing}`;
    return [h("h3", {}, columns[c].head, ` and ${name}`), box(`Scatter plot: ${alt}`, h("img", { alt, src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}` })),
      where ? h("p", { class: "muted" }, `Measured on: ${where}.`) : null,
      lacking.length ? h("p", { class: "muted" }, `Not drawn, because a score or the number of ${name} is missing: ${lacking.join(", ")}.`) : null];
  };
  const update = (focused) => {
    fill();
    const now = shown();
    if (now) {
      [drawForest, drawScores, drawCompared].forEach((draw) => draw(now));
      document.querySelectorAll("[data-chart]").forEach((each) => each.replaceChildren(...drawCost(each.dataset.chart, now).filter(Boolean)));
      one("status").textContent = `Shown: ${now.rows.length} of ${now.v.rows.length} models, ${now.columns.filter((each) => each.t >= 0).length} of ${now.v.tasks.length} tasks. Tick two models to compare them.`;
    }
    document.querySelectorAll("#more [data-probing], #more [data-task], #more [data-model]").forEach((each) => {
      const { probing, task, model } = each.dataset;
      each.hidden = Boolean((probing && probing !== field("probing").value) || (task && !ticked(tasks.findIndex((t) => t.name === task)))
        || (model && now && !now.rows.some(({ m }) => models[m].name === model)));
    });
    write();
    if (focused) document.querySelector(focused)?.focus();
  };

  // ---- CSV ----
  const csv = ({ columns, rows }) => {
    const quote = (value) => {
      const text = String(value ?? "");
      const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
      return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
    };
    const head = ["model", "marks", ...columns.flatMap(({ name }) => [name, `${name} sd`, `${name} low`, `${name} high`, `${name} letters`]), "parameters", "images/s", "seen in pretraining", "licence"];
    const lines = rows.map(({ m, scores }) => [models[m].name, models[m].marks.join("; "),
      ...scores.flatMap((s) => (Array.isArray(s) ? [...s.slice(0, 4).map((x) => (x === null ? "" : +x.toFixed(4))), s[4]] : [s ?? "", "", "", "", ""])),
      models[m].parameters, models[m].speed && models[m].speed[0], models[m].saw, models[m].licence]);
    return [head, ...lines].map((line) => `${line.map(quote).join(",")}\n`).join("");
  };
  const save = () => {
    const now = shown();
    if (!now) return;
    const href = URL.createObjectURL(new Blob([csv(now)], { type: "text/csv" }));
    h("a", { href, download: "leaderboard-shown.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  };

  // ---- sections, built when they are opened ----
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
  };
  const figure = ({ svg, alt }) => {
    const image = h("img", { alt });
    unpack(svg).then((text) => { image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`; });
    return h("div", { class: "box figure", role: "region", "aria-label": alt, tabindex: 0 }, image);
  };
  const confusion = ({ confusion: { classes, models: some }, probing, task }) => [
    h("h3", {}, `${task}: ${probing}`),
    h("p", {}, classes.map(([name, count], n) => `${n}: ${name} (${count} test images)`).join("; "), "."),
    h("div", { class: "matrices" }, some.map(([model, rows]) => h("figure", { "data-model": model }, h("figcaption", {}, named(models.findIndex((each) => each.name === model))),
      box(`Confusion of ${model} on ${task}`, h("table", { class: "matrix" },
        h("thead", {}, h("tr", {}, h("td"), classes.map(([name], n) => h("th", { scope: "col", title: name }, n)))),
        h("tbody", {}, rows.map((row, n) => h("tr", {}, h("th", { scope: "row", title: classes[n][0] }, n),
          row.map((share) => h("td", { class: `s${Math.round((share || 0) / 10)}` }, share ?? "")))))))))),
  ];
  const images = ({ images: { asked, count, why, kinds: found }, task }) => [
    h("h3", {}, `${task}: ${count} test images`), h("p", {}, `${asked}.`), why ? h("p", { class: "note" }, `No pictures: ${why}.`) : null,
    found.filter((kind) => kind.examples.length).map(({ title, count: all, examples }) => h("div", {}, h("h4", {}, `${title}: ${examples.length} of ${all}`),
      h("div", { class: "examples" }, examples.map(({ name, truth, picture, answers }) => h("figure", {},
        picture ? h("img", { src: picture, alt: `Test image ${name} of class ${truth}` }) : null,
        h("figcaption", {}, h("code", {}, name), h("br"), `true class: ${truth}`, answers.map(([answer, right, by]) => [h("br"),
          h("span", { class: right ? "right-answer" : "wrong-answer" }, `${answer} (${right ? "right" : "wrong"})`), `: ${by}`]))))))),
  ];
  const card = ({ card: facts, task }) => h("article", { class: "card" }, h("h3", {}, taskName(tasks.findIndex((each) => each.name === task))),
    h("dl", {}, facts.map(([term, some]) => [h("dt", {}, term), some.map((said) => (Array.isArray(said)
      ? h("dd", { "data-probing": said[0] }, coded(said[1])) : h("dd", {}, coded(said))))])));
  const plain = ({ table: { title, head, rows, right, code } }) => [h("h3", {}, title), box(title, table(head, rows, right, code))];
  const list = ({ title, list: some }) => [title ? h("h3", {}, title) : null, h("ul", {}, some.map((said) => h("li", {}, coded(said))))];
  const kindsOfPart = { svg: figure, confusion, images, card, table: plain, list, chart: ({ chart }) => h("div", { class: "figure", "data-chart": chart }) };
  data.sections.forEach(({ id, lead, parts }) => one(id).addEventListener("toggle", () => {
    if (one(id).childElementCount > 1) return;
    one(id).append(h("p", { class: "muted" }, coded(lead)), h("div", { class: parts[0].card ? "cards" : null }, parts.map((part) => {
      const kind = Object.keys(kindsOfPart).find((name) => name in part);
      return h("div", { "data-probing": part.probing, "data-task": part.task }, kindsOfPart[kind](part));
    })));
    update();
  }));

  form.addEventListener("input", () => update());
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => { read(); update(); });
  form.hidden = !views.length;
  fill();
  read();
  update();
})();
