"use strict";
// Draws the figures, sorts the tables, and redraws the figures at paper width for print.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const panels = [...document.querySelectorAll(".panel")];
  const PRINT = { autosize: false, width: 500, height: 285 };

  const draw = (panel) => {
    const { data, layout } = figures[panel.dataset.figure][Number(panel.dataset.panel)];
    const height = Number(panel.dataset.height);
    const config = {
      responsive: true,
      displaylogo: false,
      // On a narrow page the buttons would stand on the title.
      displayModeBar: window.innerWidth > 700 ? "hover" : false,
      showSendToCloud: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    };
    return Plotly.newPlot(panel, data, { ...layout, height }, config);
  };

  const key = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.value;
    if (value === undefined) return cell.textContent;
    return value === "-inf" ? -Infinity : value === "inf" ? Infinity : Number(value);
  };

  // Numbers before text, so that what was not measured stands last either way.
  const compare = (a, b, sign) => {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    if (typeof a === "number") return a === b ? 0 : sign * (a < b ? -1 : 1);
    return sign * a.localeCompare(b);
  };

  const sort = (heading) => {
    const table = heading.closest("table");
    const body = table.tBodies[0];
    const column = heading.cellIndex;
    const descending = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
    body.append(...rows.map(([, row]) => row));
  };

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  window.addEventListener("beforeprint", () => {
    // A heat map keeps its height: its rows would not fit a lower one.
    for (const panel of panels.filter((one) => one.data)) {
      const height = panel.dataset.figure === "lengths" ? Number(panel.dataset.height) : PRINT.height;
      Plotly.relayout(panel, { ...PRINT, height });
    }
  });
  window.addEventListener("afterprint", () => {
    for (const panel of panels.filter((one) => one.data)) {
      Plotly.relayout(panel, { autosize: true, width: null, height: Number(panel.dataset.height) });
    }
  });

  // One after the other, so that the page answers while it draws.
  (async () => {
    for (const panel of panels) {
      await draw(panel);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    document.documentElement.dataset.drawn = String(panels.length);
  })();
})();
