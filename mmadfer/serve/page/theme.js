// The theme that was chosen, before anything is drawn; without one, the system's.
(() => {
  const root = document.documentElement;
  const stored = () => {
    try { return localStorage.getItem("mmadfer.theme") || ""; } catch { return ""; }
  };
  const use = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  use(stored());
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = stored();
    select.addEventListener("change", () => {
      use(select.value);
      try { localStorage.setItem("mmadfer.theme", select.value); } catch { /* it lasts as long as the page */ }
    });
  });
})();
