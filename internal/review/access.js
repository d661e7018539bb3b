
"use strict";
(() => {
  const table = document.getElementById("lines"), body = table.tBodies[0], rows = [...body.rows];
  const form = document.getElementById("filter"), words = document.getElementById("words"), shown = document.getElementById("shown");
  const boxes = [...form.querySelectorAll("input[type=checkbox]")];
  const texts = new Map(rows.map((r) => [r, r.textContent.toLowerCase()]));

  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const flags = boxes.filter((b) => b.checked).map((b) => b.value);
    let count = 0;
    for (const row of rows) {
      const have = row.dataset.flags.split(" ");
      row.hidden = !wanted.every((w) => texts.get(row).includes(w)) || !flags.every((f) => have.includes(f));
      if (!row.hidden) count++;
    }
    shown.textContent = `${count} of ${rows.length} lines are shown.`;
  };

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  };
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const sort = (heading, column) => {
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    rows.sort((a, b) => (up ? 1 : -1) * compare(key(a, column), key(b, column)));
    body.append(...rows);
  };

  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => sort(heading, column));
    heading.replaceChildren(button);
  });
  form.addEventListener("submit", (e) => e.preventDefault());
  form.addEventListener("input", filter);
  form.hidden = false;
  filter();
})();
