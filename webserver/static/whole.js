// Loads the page again when a part of it did not come: without all its scripts it shows nothing new.
"use strict";

(() => {
  const KEY = "headwater-loads";
  const MOST = 5;
  let noticed = false;

  function loadsBefore() {
    try {
      const before = Number(sessionStorage.getItem(KEY)) || 0;
      sessionStorage.setItem(KEY, before + 1); // main.js forgets it once all has come
      return before;
    } catch {
      return MOST; // storage is switched off: nothing would keep us from loading for ever
    }
  }

  function failed(event) {
    if (noticed || !(event.target instanceof HTMLScriptElement)) return;
    noticed = true;
    const before = loadsBefore();
    if (before < MOST) setTimeout(() => location.reload(), 500 * 2 ** before);
    const say = () => {
      const chip = document.getElementById("connection");
      chip.dataset.connection = "lost";
      chip.textContent = before < MOST ? "Loading again…" : "Not all was loaded: load again";
    };
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", say);
    else say();
  }

  // A script that does not come tells its own element, and on the way down to it, us.
  window.addEventListener("error", failed, true);
})();
