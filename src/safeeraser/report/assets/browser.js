/* The browser of answers. All that it shows stands in the address, so that a link opens at the same place. */
(() => {
  const narrow = matchMedia("(max-width: 760px)");
  const FIELDS = ["set", "category", "method", "verdict", "change", "sort", "text"];
  const RANK = { bad: 0, odd: 1, good: 2 };
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const detail = document.getElementById("detail");
  const beside = detail.parentElement;
  const numbers = new Map(data.queries.map((query, number) => [query[ID], number]));
  const state = { found: [], page: 0, chosen: -1, open: true };
  const every = data.cells.map((_, cell) => cell);
  const pageSize = () => (narrow.matches ? 25 : 200);

  function fill(name, values, all) {
    const select = form.elements[name];
    select.append(new Option(all, ""));
    for (const [value, label] of values) select.append(new Option(label, value));
  }
  const distinct = column => [...new Set(data.queries.map(query => query[column]))].filter(Boolean);
  fill("set", distinct(SET).map(value => [value, SETS[value] || value]), "all sets");
  fill("category", distinct(CATEGORY).sort().map(value => [value, value]), "all categories");
  fill("method", [...new Set(data.cells.flatMap(([label, method]) => [method, label]))].map(name => [name, name]), "any method");
  const words = new Set();
  every.forEach(cell => data.queries.forEach((_, number) => words.add(outcome(cell, number)[0])));
  fill("verdict", [...Object.entries(GROUPS).map(([value, [label]]) => [value, label]), ...[...words].sort().map(word => [word, word])], "any verdict");
  const shown = document.getElementById("shown");
  shown.append(...data.cells.map(([label]) => {
    const item = make("label"), box = make("input");
    [box.type, box.name, box.value, box.defaultChecked] = ["checkbox", "show", label, true];
    item.append(box, " " + label);
    return item;
  }));
  const boxes = [...shown.querySelectorAll("input")];
  const visible = () => every.filter(cell => boxes[cell].checked);

  const lower = data.texts.map(() => null);
  const low = number => (lower[number] ??= data.texts[number].toLowerCase());

  function changed(cell, number, how) {
    const [before, after] = [outcome(vanilla(cell), number), outcome(cell, number)];
    if (how === "other") return before[0] !== after[0];
    return how === "better" ? RANK[after[1]] > RANK[before[1]] : RANK[after[1]] < RANK[before[1]];
  }

  function matches(number, wanted, cells) {
    const query = data.queries[number];
    if (wanted.set && query[SET] !== wanted.set) return false;
    if (wanted.category && query[CATEGORY] !== wanted.category) return false;
    if (wanted.verdict || wanted.change) {
      const group = GROUPS[wanted.verdict]?.[1] ?? (([word]) => !wanted.verdict || word === wanted.verdict);
      const counts = cell => data.answers[cell][number] >= 0 && group(outcome(cell, number))
        && (!wanted.change || (vanilla(cell) >= 0 && changed(cell, number, wanted.change)));
      if (!cells.some(counts)) return false;
    }
    const text = wanted.text.trim().toLowerCase();
    if (!text || query[GROUP] === text) return true;
    if (query[ID] === text || query[RECORD] === text) return true;
    if (low(query[QUESTION]).includes(text) || low(query[REFERENCE]).includes(text)) return true;
    return cells.some(cell => data.answers[cell][number] >= 0 && low(data.replies[data.answers[cell][number]][0]).includes(text));
  }

  const ORDERS = {
    category: (cells, number) => data.queries[number][CATEGORY],
    unwanted: (cells, number) => -cells.filter(cell => outcome(cell, number)[1] === "bad").length,
    differ: (cells, number) => -new Set(cells.map(cell => outcome(cell, number)[0])).size,
  };

  function search() {
    const wanted = Object.fromEntries(FIELDS.map(name => [name, form.elements[name].value]));
    const cells = wanted.method ? every.filter(cell => data.cells[cell].includes(wanted.method)) : visible();
    state.found = data.queries.map((_, number) => number).filter(number => matches(number, wanted, cells));
    const order = ORDERS[wanted.sort];
    if (order) {
      const keys = new Map(state.found.map(number => [number, order(visible(), number)]));
      state.found.sort((a, b) => (keys.get(a) < keys.get(b) ? -1 : keys.get(a) > keys.get(b) ? 1 : a - b));
    }
    state.page = 0;
    document.getElementById("count").textContent = `${state.found.length.toLocaleString("en")} of ${data.queries.length.toLocaleString("en")} questions, ${visible().length} of ${data.cells.length} cells shown`;
    if (!state.found.includes(state.chosen)) state.chosen = state.found[0] ?? -1;
    choose(state.chosen);
  }

  function draw() {
    const first = state.page * pageSize();
    const cells = visible();
    beside.append(detail);
    list.replaceChildren(...state.found.slice(first, first + pageSize()).map(number => {
      const query = data.queries[number];
      const link = make("a"), marks = make("span", undefined, "marks"), item = make("li");
      marks.append(...cells.filter(cell => data.answers[cell][number] >= 0).map(cell => mark(cell, number)));
      link.append(marks, make("span", data.texts[query[QUESTION]]));
      link.href = address(number);
      link.append(make("small", [SETS[query[SET]] || query[SET], query[CATEGORY], query[GROUP]].filter(Boolean).join(" · ")));
      link.addEventListener("click", event => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        state.open = !(narrow.matches && state.open && number === state.chosen);
        choose(number);
        remember();
        if (narrow.matches) list.querySelector("[aria-current]").scrollIntoView({ block: "nearest" });
      });
      item.append(link);
      if (number === state.chosen) {
        link.setAttribute("aria-current", "true");
        if (narrow.matches && state.open) item.append(detail);
      }
      return item;
    }));
    if (narrow.matches && detail.parentElement === beside && state.found.length) detail.remove();
    const pages = Math.max(1, Math.ceil(state.found.length / pageSize()));
    document.getElementById("where").textContent = `page ${state.page + 1} of ${pages}`;
    document.getElementById("back").disabled = state.page === 0;
    document.getElementById("on").disabled = state.page >= pages - 1;
  }

  function answer(cell, number) {
    const [said, kind] = outcome(cell, number);
    const card = make("section", undefined, "answer " + kind);
    card.append(make("h3", data.cells[cell][LABEL]), make("p", `${MARKS[kind]} ${said}`, "said"), make("p", spoken(cell, number), "words"));
    const [, error, finished] = data.replies[data.answers[cell][number]];
    if (error === null && !finished) card.append(make("p", "cut off at the token limit", "soft"));
    card.append(...reasons(cell, number));
    return card;
  }

  function choose(number) {
    state.chosen = number;
    const place = state.found.indexOf(number);
    if (place >= 0) state.page = Math.floor(place / pageSize());
    if (number < 0) detail.replaceChildren(make("p", "No answer matches: clear a filter.", "none"));
    else {
      const query = data.queries[number];
      const about = make("div", undefined, "about"), text = make("div", undefined, "question");
      text.append(make("p", [SETS[query[SET]] || query[SET], query[CATEGORY], query[GROUP], `record ${query[RECORD]}`].filter(Boolean).join(" · "), "soft"));
      const reference = data.texts[query[REFERENCE]];
      text.append(make("p", data.texts[query[QUESTION]], "asked"));
      if (reference) text.append(make("p", "Reference: " + reference, "soft"));
      about.append(picture(query), text);
      const answers = make("div", undefined, "answers");
      answers.append(...visible().filter(cell => data.answers[cell][number] >= 0).map(cell => answer(cell, number)));
      detail.replaceChildren(about, answers);
    }
    draw();
  }

  function address(number) {
    const parts = new URLSearchParams(number < 0 ? {} : { q: data.queries[number][ID] });
    for (const name of FIELDS) if (form.elements[name].value) parts.set(name, form.elements[name].value);
    if (visible().length < every.length) for (const cell of visible()) parts.append("show", data.cells[cell][LABEL]);
    return "#" + parts;
  }
  const remember = () => history.replaceState(null, "", address(state.chosen));

  /* Show what the address says, if it is about answers at all; a heading's link leaves everything as it is. */
  function follow() {
    if (location.hash && !location.hash.includes("=")) return false;
    const parts = new URLSearchParams(location.hash.slice(1));
    for (const name of FIELDS) form.elements[name].value = parts.get(name) ?? "";
    const chosen = parts.getAll("show");
    for (const box of boxes) box.checked = !chosen.length || chosen.includes(box.value);
    state.chosen = numbers.get(parts.get("q")) ?? -1;
    search();
    const opened = narrow.matches && list.querySelector("[aria-current]");
    if (location.hash) (opened || document.getElementById("browser")).scrollIntoView();
    return true;
  }

  function step(by) {
    if (!state.found.length) return;
    const place = state.found.indexOf(state.chosen);
    choose(state.found[Math.min(state.found.length - 1, Math.max(0, place < 0 ? 0 : place + by))]);
    remember();
    list.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
  }

  let waiting = 0;
  const later = () => { search(); remember(); };
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(later, 120); });
  form.addEventListener("reset", () => setTimeout(later));
  form.addEventListener("submit", event => event.preventDefault());
  document.getElementById("back").addEventListener("click", () => { state.page -= 1; draw(); });
  document.getElementById("on").addEventListener("click", () => { state.page += 1; draw(); });
  narrow.addEventListener("change", draw);
  addEventListener("hashchange", follow);
  addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const keys = { j: () => step(1), k: () => step(-1), "/": () => form.elements.text.focus(), u: () => detail.querySelector(".unsafe")?.click() };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  if (!follow()) search();
})();
