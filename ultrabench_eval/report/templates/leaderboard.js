"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const one = (id) => document.getElementById(id);

  // ---- sorting: falling, rising, as it was; holes stand last in either direction ----
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    return cell.classList.contains("right") ? "" : cell.textContent.trim();
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");

  const sort = (table, head, first) => {
    const column = head.cellIndex;
    const body = table.tBodies[0];
    const last = first === "descending" ? "ascending" : "descending";
    const now = head.getAttribute("aria-sort");
    const next = now === null ? first : now === first ? last : null;
    all("thead th", table).forEach((other) => other.removeAttribute("aria-sort"));
    let rows = Array.from(table.originalRows);
    if (next !== null) {
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const keyed = rows.map((row) => [valueOf(row, column), row]);
      const known = keyed.filter(([value]) => value !== "");
      const holes = keyed.filter(([value]) => value === "");
      known.sort((a, b) => sign * compare(a[0], b[0]));
      rows = [...known, ...holes].map(([, row]) => row);
    }
    body.append(...rows);
  };

  all("table.sortable").forEach((table) => {
    table.originalRows = Array.from(table.tBodies[0].rows);
    all("thead th", table).forEach((head) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      const errors = table.closest("[data-rising]") && !["parameters", "images/s"].includes(button.textContent);
      const first = head.classList.contains("right") && !errors ? "descending" : "ascending";
      button.addEventListener("click", () => sort(table, head, first));
    });
  });

  // ---- filters ----
  const controls = one("controls");
  const show = (element, yes) => { element.hidden = !yes; };
  const valueOfSelect = (id) => (one(id) ? one(id).value : null);

  const filter = () => {
    const probing = valueOfSelect("probing");
    const condition = valueOfSelect("condition");
    const words = one("model").value.toLowerCase().split(",").map((word) => word.trim()).filter(Boolean);
    const floors = one("floors").checked;
    const boxes = all("input[name=task]", controls);
    const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));

    all("[data-probing]").forEach((element) => show(
      element,
      (probing === null || element.dataset.probing === probing) &&
        (condition === null || element.dataset.condition === undefined || element.dataset.condition === condition)
    ));
    all("[data-model]").forEach((element) => {
      const name = element.dataset.model.toLowerCase();
      const asked = words.length === 0 || words.some((word) => name.includes(word));
      const floor = element.classList.contains("floor") || element.classList.contains("hollow");
      element.toggleAttribute("hidden", !(asked && (floors || !floor)));
    });
    all("article[data-task], details[data-task]").forEach((element) => show(element, !off.has(element.dataset.task)));
    all("table.sortable").forEach((table) => {
      const columns = all("thead th[data-task]", table);
      columns.forEach((head) => {
        const yes = !off.has(head.dataset.task);
        show(head, yes);
        table.originalRows.forEach((row) => show(row.cells[head.cellIndex], yes));
      });
    });

    const boards = all(".board").filter((board) => !board.hidden);
    show(one("none"), boards.length === 0 && all(".board").length > 0);
    const rows = boards.flatMap((board) => all("tbody tr", board));
    const shown = rows.filter((row) => !row.hidden).length;
    const tasks = boxes.length ? `, ${boxes.length - off.size} of ${boxes.length} tasks` : "";
    one("status").textContent = `Shown: ${shown} of ${rows.length} models${tasks}.`;
  };

  controls.addEventListener("input", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.hidden = false;
  filter();

  // ---- print: what is folded is printed, too, and folded again ----
  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    opened.forEach((element) => { element.open = true; });
  });
  window.addEventListener("afterprint", () => opened.forEach((element) => { element.open = false; }));
})();
