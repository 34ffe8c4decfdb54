"use strict";
(() => {
  // Rows of a table that are shown before "Show all" is clicked.
  const MOST_ROWS = 100;
  const form = document.getElementById("filters");
  const status = document.getElementById("status");
  const nothing = document.getElementById("nothing");
  const collator = new Intl.Collator("en", { sensitivity: "base", numeric: true });

  const tables = [...document.querySelectorAll("table.board")].map((element) => ({
    element,
    body: element.tBodies[0],
    panel: element.closest(".panel"),
    section: element.closest("section"),
    rows: [...element.tBodies[0].rows],
    heads: [...element.querySelectorAll("th[data-sort]")],
    sort: null,
    whole: false,
    rest: null,
  }));

  // The part of the address after "#": dataset=atr&way=k&sort.TABLE=3d. A bare name is an anchor on the page.
  let state = new URLSearchParams();

  function readAddress() {
    const hash = location.hash.slice(1);
    const place = hash && document.getElementById(hash);
    if (place) {
      unfold(place);
      place.scrollIntoView();
      return;
    }
    state = new URLSearchParams(hash);
    for (const field of form.elements) {
      if (!field.name) continue;
      field.value = state.get(field.name) ?? "";
      // The value is no longer in the list.
      if (field.selectedIndex === -1) field.value = "";
    }
    for (const table of tables) sortBy(table, state.get(`sort.${table.element.id}`));
    filter();
  }

  function writeAddress() {
    for (const field of form.elements) {
      if (!field.name) continue;
      if (field.value) state.set(field.name, field.value);
      else state.delete(field.name);
    }
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    const name = wanted.method.trim().toLowerCase();
    const fits = (row) =>
      (!wanted.kind || row.dataset.kind === wanted.kind) &&
      (!wanted.backbone || `=${row.dataset.backbone}` === wanted.backbone) &&
      (!wanted.pretraining || `=${row.dataset.pretraining}` === wanted.pretraining) &&
      (!name || row.cells[0].dataset.value.toLowerCase().includes(name));
    let [shown, all, boards] = [0, 0, 0];
    for (const table of tables) {
      const here =
        (!wanted.dataset || table.section.dataset.dataset === wanted.dataset) &&
        (!wanted.way || table.panel.dataset.way === wanted.way);
      let found = 0;
      for (const row of table.body.rows) {
        const fit = here && fits(row);
        if (fit) found += 1;
        row.hidden = !fit;
        row.classList.toggle("later", found > MOST_ROWS && !table.whole);
      }
      table.panel.hidden = found === 0;
      offerRest(table, found);
      shown += found;
      all += table.rows.length;
      if (found) boards += 1;
    }
    for (const part of document.querySelectorAll("article, section")) {
      part.hidden = !part.querySelector(".panel:not([hidden])");
    }
    if (Object.values(wanted).some(Boolean)) unfold(document);
    nothing.hidden = shown > 0;
    status.textContent = `${shown} of ${all} rows in ${boards} of ${tables.length} tables`;
  }

  // The published tables of tests that nobody has scored here are folded until they are asked for.
  function unfold(within) {
    for (const folded of within.querySelectorAll("details.published")) folded.open = true;
  }

  function offerRest(table, found) {
    const more = !table.whole && found > MOST_ROWS;
    if (more && !table.rest) {
      table.rest = document.createElement("p");
      table.rest.className = "rest";
      const button = document.createElement("button");
      button.type = "button";
      button.addEventListener("click", () => {
        table.whole = true;
        filter();
        table.element.closest(".scroll").focus();
      });
      table.rest.append(button);
      table.element.closest(".scroll").after(table.rest);
    }
    if (table.rest) {
      table.rest.hidden = !more;
      table.rest.firstChild.textContent = `Show all ${found} rows`;
    }
  }

  // Columns are counted by cells of a row, whose own head is column 0.
  function sortBy(table, order) {
    const [, column, way] = /^(\d+)([ad])$/.exec(order ?? "") ?? [];
    const head = table.heads[column];
    if (table.sort === (head ? order : null)) return;
    table.sort = head ? order : null;
    for (const head of table.heads) head.removeAttribute("aria-sort");
    if (!head) {
      table.body.append(...table.rows);
      return;
    }
    head.setAttribute("aria-sort", way === "d" ? "descending" : "ascending");
    const sign = way === "d" ? -1 : 1;
    const numbers = head.dataset.sort === "number";
    const keyed = table.rows.map((row) => {
      const said = row.cells[column].dataset.value;
      return { row, value: said === undefined ? null : numbers ? Number(said) : said };
    });
    keyed.sort((a, b) => {
      // Empty cells come last in either direction.
      if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
      return sign * (numbers ? a.value - b.value : collator.compare(a.value, b.value));
    });
    table.body.append(...keyed.map(({ row }) => row));
  }

  function nextOrder(table, column) {
    const first = table.heads[column].dataset.sort === "number" ? "d" : "a";
    const second = first === "d" ? "a" : "d";
    if (table.sort === `${column}${first}`) return `${column}${second}`;
    return table.sort === `${column}${second}` ? null : `${column}${first}`;
  }

  for (const table of tables) {
    table.heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      if (head.dataset.name) button.setAttribute("aria-label", head.dataset.name);
      button.addEventListener("click", () => {
        const order = nextOrder(table, column);
        sortBy(table, order);
        if (order) state.set(`sort.${table.element.id}`, order);
        else state.delete(`sort.${table.element.id}`);
        filter();
        writeAddress();
      });
      head.replaceChildren(button);
    });
  }
  form.addEventListener("input", () => {
    filter();
    writeAddress();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { filter(); writeAddress(); }));
  addEventListener("hashchange", readAddress);
  form.hidden = false;
  status.hidden = false;
  readAddress();
  filter();
})();
