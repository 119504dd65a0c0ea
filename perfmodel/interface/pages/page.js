"use strict";
// Each heading becomes a button that sorts its table: numbers as numbers, other words by the alphabet.
const value = (row, place) => row.cells[place].textContent.trim();
const asNumber = (text) => parseFloat(text.replaceAll(",", ""));
function compare(a, b) {
  const [x, y] = [asNumber(a), asNumber(b)];
  if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
  return Number.isNaN(x) ? a.localeCompare(b) : x - y;
}
function sort(heading) {
  const down = heading.getAttribute("aria-sort") === "ascending";
  const body = heading.closest("table").tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(value(a, heading.cellIndex), value(b, heading.cellIndex)));
  body.append(...(down ? rows.reverse() : rows));
  for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
}
for (const heading of document.querySelectorAll("thead th")) {
  const button = document.createElement("button");
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => sort(heading));
}
