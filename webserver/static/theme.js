// Light, dark, or as the system has it; runs before the first paint, so that nothing flashes.
"use strict";

(() => {
  const KEY = "headwater-theme";
  const NEXT = { system: "light", light: "dark", dark: "system" };

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is switched off: the choice lasts as long as the page
    }
  }

  let theme = stored() in NEXT ? stored() : "system";

  function apply() {
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${theme}`;
    document.dispatchEvent(new Event("headwater:theme"));
  }

  apply();
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      theme = NEXT[theme];
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // as above
      }
      apply();
    });
  });
})();
