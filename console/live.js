// Replaces the page's content by a fresh rendering every two seconds, as long as somebody looks at it.
"use strict";
const live = document.querySelector(".live");

function ready(root) {
  // The clipboard is only there on https and loopback.
  if (navigator.clipboard) for (const b of root.querySelectorAll(".copy")) b.hidden = false;
}

function tell(lost) {
  live.classList.toggle("lost", lost);
  document.body.classList.toggle("stale", lost);
  live.querySelector(".text").textContent = lost ? "no contact to the node" : "live";
}

async function refresh() {
  // Not under a person's selection or focus.
  const main = document.querySelector("main");
  if (document.hidden || !getSelection().isCollapsed || main.contains(document.activeElement)) return;
  try {
    const answer = await fetch("/", { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = document.adoptNode(page.querySelector("main"));
    ready(fresh);
    document.querySelector("main").replaceWith(fresh);
    tell(false);
  } catch {
    tell(true);
  }
}

async function loop() {
  for (;;) {
    await new Promise((next) => setTimeout(next, 2000));
    await refresh();
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.textContent = "copied";
  } catch {
    button.textContent = "not allowed";
  }
  setTimeout(() => { button.textContent = "copy"; button.blur(); }, 1200);
});

ready(document);
loop();
