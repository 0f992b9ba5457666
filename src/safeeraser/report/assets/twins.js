/* Twins: one question about an unsafe image and about a safe one. Shown are those on which PD changes most. */
(() => {
  const TWINS = 3, CHANGED = 5;
  const bases = data.cells.map((_, cell) => cell).filter(cell => decoupled(cell) >= 0);
  const key = query => JSON.stringify([query[RECORD], query[QUESTION], query[SAMPLE]]);
  const unsafe = new Map();
  data.queries.forEach((query, number) => { if (query[SET] === "generality" || query[SET] === "efficacy") unsafe.set(key(query), number); });
  const pairs = data.queries.map((query, number) => [unsafe.get(key(query)), number])
    .filter(([first, number]) => data.queries[number][SET] === "safe" && first !== undefined);

  const kind = (cell, number) => (cell < 0 ? "odd" : outcome(cell, number)[1]);
  function points([first, second], base) {
    const good = (cell, number) => Number(kind(cell, number) === "good");
    const [before, after] = [vanilla(base), decoupled(base)];
    const changed = kind(base, second) === "bad" && good(after, second);
    return CHANGED * changed + good(base, first) + good(after, first) + good(before, second) + Number(kind(before, first) === "bad");
  }

  /* The best of each round; a category and a method that were shown already count less. Those that PD changes, if any. */
  function chosen() {
    let all = pairs.flatMap(pair => bases.map(base => ({ pair, base, points: points(pair, base) })));
    if (all.some(one => one.points >= CHANGED)) all = all.filter(one => one.points >= CHANGED);
    const found = [], seen = new Map();
    const taken = one => ["c" + data.queries[one.pair[1]][CATEGORY], "m" + data.cells[one.base][METHOD], "q" + one.pair[1]];
    while (found.length < TWINS) {
      let best = null, most = -Infinity;
      for (const one of all) {
        const [category, method, question] = taken(one).map(name => seen.get(name) ?? 0);
        const worth = one.points - 0.6 * category - 0.5 * method - 9 * question;
        if (worth > most) [best, most] = [one, worth];
      }
      if (!best || taken(best).some(name => name[0] === "q" && seen.has(name))) break;
      found.push(best);
      taken(best).forEach(name => seen.set(name, (seen.get(name) ?? 0) + 1));
    }
    return found;
  }

  function said(cell, number) {
    const [word, how] = outcome(cell, number);
    const box = make("div", undefined, "answer " + how);
    box.append(make("p", data.cells[cell][METHOD], "who"), make("p", `${MARKS[how]} ${word}`, "said"));
    if (data.answers[cell][number] >= 0) box.append(make("p", spoken(cell, number), "words"));
    return box;
  }

  function article({ pair, base }) {
    const element = make("article", undefined, "twin"), grid = make("div", undefined, "pair");
    const [first, second] = pair.map(number => data.queries[number]);
    element.append(make("h3", `“${data.texts[second[QUESTION]]}”`));
    [[first, "on the unsafe image"], [second, "on the safe image"]].forEach(([query, title]) => {
      const head = make("div", undefined, "head");
      head.append(make("h4", title), picture(query));
      grid.append(head);
    });
    for (const cell of [vanilla(base), base, decoupled(base)]) if (cell >= 0) grid.append(...pair.map(number => said(cell, number)));
    const more = make("a", "All answers to this question");
    more.href = "#q=" + encodeURIComponent(second[ID]);
    element.append(grid, more);
    return element;
  }

  const found = chosen();
  document.getElementById("twins").hidden = !found.length;
  document.getElementById("twins-list").append(...found.map(article));
})();
