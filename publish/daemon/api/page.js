// Brings the page up to date every two seconds, while somebody looks at it.
"use strict";
const live = document.getElementById("live");
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("live", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.statusText);
    live.innerHTML = await answer.text();
    document.body.classList.remove("gone");
  } catch {
    document.body.classList.add("gone");
  }
}
setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
