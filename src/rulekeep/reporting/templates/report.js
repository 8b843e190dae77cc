"use strict";
// Sorts a table by the column that is clicked, and shows the rows with the words that are typed.
(() => {
  const key = (row, column, numeric) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent;
    const said = cell.dataset.v ?? (/^[-+]?[\d,]*\.?\d+/.exec(cell.textContent) ?? [""])[0];
    if (said.endsWith("inf")) return said === "-inf" ? -Infinity : Infinity;
    return said === "" ? null : Number(said.replaceAll(",", ""));
  };

  // What was not measured stands last either way.
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number") return a === b ? 0 : sign * (a < b ? -1 : 1);
    return sign * a.localeCompare(b);
  };

  const sort = (heading) => {
    const table = heading.closest("table");
    const body = table.tBodies[0];
    const column = heading.cellIndex;
    const numeric = heading.classList.contains("n");
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [key(row, column, numeric), row]);
    rows.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
    body.append(...rows.map(([, row]) => row));
  };

  const addFilter = (table) => {
    const input = document.createElement("input");
    input.type = "search";
    input.placeholder = "Show rows with these words";
    input.setAttribute("aria-label", `${input.placeholder}: ${table.parentElement.ariaLabel}`);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    table.parentElement.before(input);
  };

  for (const table of document.querySelectorAll("table")) {
    table.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) sort(button.closest("th"));
    });
    if (table.tBodies[0].rows.length > 12) addFilter(table);
  }

  // Paper has no fold to open.
  window.addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details:not(.values)")) fold.open = true;
  });
})();
