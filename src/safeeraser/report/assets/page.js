/* What a mark says when pointed at or reached by the keyboard; and a page that renews itself while its run goes on. */
(() => {
  const tip = document.getElementById("tip");
  function show(event) {
    const mark = event.target.closest?.("[data-tip]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const box = mark.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, document.documentElement.clientWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = (box.top > tip.offsetHeight + 8 ? box.top - tip.offsetHeight - 6 : box.bottom + 6) + "px";
  }
  for (const name of ["pointerover", "focusin"]) addEventListener(name, show);
  for (const name of ["scroll", "focusout"]) addEventListener(name, () => { tip.hidden = true; }, { passive: true });

  const live = document.getElementById("live");
  if (!live) return;
  setInterval(async () => {
    const now = await fetch("state").then(reply => reply.json()).catch(() => null);
    if (!now) return;
    live.textContent = now.said;
    if (live.dataset.version !== now.version) location.reload();
  }, 2000);
})();
