
"use strict";
(() => {
  const PAGE = 200;
  const tasks = JSON.parse(document.getElementById("data").textContent);
  const body = document.querySelector("#list tbody");
  const search = document.getElementById("search");
  const status = document.getElementById("status");
  const shown = document.getElementById("shown");
  const more = document.getElementById("more");
  const heads = [...document.querySelectorAll("#list thead button")];
  const numeric = new Set(["n", "seconds", "waited", "tokens", "cost"]);
  let key = "n", down = false, limit = PAGE, found = tasks;
  const opened = new Set();

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const number = (value, digits) => value === undefined ? "" :
    value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
  const text = task => [task.n, task.title, task.id, task.backend, task.model, task.status, task.kind,
    task.error, task.worker, task.prompt, task.data, task.answer, task.verify, task.patch, (task.tags || []).join(" ")].join("\n").toLowerCase();
  const texts = new Map();
  const matches = (task, words) => {
    if (!texts.has(task)) texts.set(task, text(task));
    return words.every(word => texts.get(task).includes(word));
  };

  function row(task) {
    const made = element("tr");
    made.id = `task-${task.n}`;
    const open = element("button", task.title || "(no name)", "open");
    open.type = "button";
    open.setAttribute("aria-expanded", opened.has(task.n));
    open.addEventListener("click", () => {
      opened.has(task.n) ? opened.delete(task.n) : opened.add(task.n);
      open.setAttribute("aria-expanded", opened.has(task.n));
      if (opened.has(task.n)) made.after(detail(task)); else made.nextSibling.remove();
    });
    const name = element("td");
    name.append(open);
    made.append(
      element("td", task.n, "number"),
      element("td", task.backend + (task.model ? ` ${task.model}` : "")),
      element("td", task.status + (task.kind && task.kind !== task.status ? ` (${task.kind})` : ""),
        `status ${task.status}`),
      name,
      element("td", number(task.seconds, 2) + " s", "number"),
      element("td", task.waited ? number(task.waited, 0) + " s" : "", "number"),
      element("td", number(task.tokens, 0), "number"),
      element("td", task.cost === undefined ? "" : "$" + number(task.cost, 4), "number"),
      element("td", task.worker || ""));
    return made;
  }

  function detail(task) {
    const made = element("tr", undefined, "detail"), cell = element("td");
    cell.colSpan = heads.length;
    const part = (title, node) => cell.append(element("h3", title), node);
    if (task.error) part("Error", element("p", task.error, "error"));
    const list = values => {
      const items = element("ul");
      for (const value of values) items.append(element("li", value));
      return items;
    };
    if (task.tried) part("Tried before", list(task.tried));
    if (task.warnings) part("Warnings", list(task.warnings));
    const pre = value => {
      const made = element("pre", value);
      made.tabIndex = 0;
      return made;
    };
    if (task.prompt) part("Prompt", pre(task.prompt));
    if (task.data) part("Data", pre(task.data));
    if (task.answer) {
      const answer = element("div", undefined, "answer");
      answer.tabIndex = 0;
      answer.innerHTML = task.answer;  // Markdown without HTML, rendered by clinvk
      for (const link of answer.querySelectorAll("a")) link.rel = "noopener noreferrer nofollow";
      part("Answer", answer);
    }
    if (task.verified) part(`Verify: ${task.verified}`, pre(task.verify || "(it printed nothing)"));
    if (task.changes) part("Changes", element("p", task.changes));
    if (task.patch) cell.append(pre(task.patch));
    if (task.commits) part("Commits", list(task.commits));
    if (task.steps) part("Steps", pre(task.steps));
    const facts = [["id", task.id], ["tags", (task.tags || []).join(", ")], ["attempts", task.attempts],
      ["handed back", task.repairs && `${task.repairs}×`], ["result of", task.reused], ["began", task.start],
      ["waited", task.waited && number(task.waited, 0) + " s"], ["limit opens", task.opens],
      ["tokens", task.tokens && number(task.tokens, 0)], ["cost", task.cost && "$" + number(task.cost, 4)],
      ["worker", task.worker]].filter(([, value]) => value).map(([name, value]) => `${name}: ${value}`);
    if (facts.length) cell.append(element("p", facts.join(" · "), "quiet"));
    made.append(cell);
    return made;
  }

  function draw() {
    const rows = [];
    for (const task of found.slice(0, limit)) {
      rows.push(row(task));
      if (opened.has(task.n)) rows.push(detail(task));
    }
    body.replaceChildren(...rows);
    more.hidden = found.length <= limit;
    shown.textContent = `${found.length} of ${tasks.length} tasks`;
    for (const head of heads) {
      const cell = head.parentElement;
      if (head.dataset.key === key) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  }

  function find() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = tasks.filter(task => (!status.value || task.status === status.value) && matches(task, words));
    const sign = down ? -1 : 1;
    const value = task => task[key] ?? (numeric.has(key) ? -1 : "");
    found.sort((a, b) => sign * (numeric.has(key) ? value(a) - value(b) : value(a).localeCompare(value(b))));
    draw();
  }

  function go() {
    const n = Number((location.hash.match(/^#task-(\d+)$/) || [])[1]);
    if (!n || n > tasks.length) return;
    search.value = ""; status.value = ""; key = "n"; down = false;
    opened.add(n);
    limit = Math.max(limit, n);
    find();
    document.getElementById(`task-${n}`).scrollIntoView();
  }

  for (const head of heads) head.addEventListener("click", () => {
    down = key === head.dataset.key && !down;
    key = head.dataset.key;
    find();
  });
  search.addEventListener("input", () => { limit = PAGE; find(); });
  status.addEventListener("change", () => { limit = PAGE; find(); });
  more.addEventListener("click", () => { limit += PAGE; draw(); });
  window.addEventListener("hashchange", go);
  find();
  go();
})();
