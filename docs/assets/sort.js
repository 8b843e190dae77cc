"use strict";
// Sorts a table of the board by the column whose heading is clicked; once more turns it round.
(() => {
  const number = (cell) => Number.parseFloat(cell.textContent.replaceAll(",", ""));
  document.addEventListener("click", (event) => {
    const heading = event.target.closest("table thead th");
    if (!heading || !location.pathname.endsWith("board.html")) return;
    const body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex;
    const rising = heading.getAttribute("aria-sort") === "descending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const rows = [...body.rows];
    rows.sort((one, other) => {
      const [a, b] = [one.cells[column], other.cells[column]];
      const [x, y] = [number(a), number(b)];
      // Text by its letters; what is no number stands last among numbers.
      if (Number.isNaN(x) && Number.isNaN(y)) {
        return (rising ? 1 : -1) * a.textContent.localeCompare(b.textContent);
      }
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return rising ? x - y : y - x;
    });
    body.append(...rows);
  });
})();
