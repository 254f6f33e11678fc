"use strict";
for (const box of document.querySelectorAll("[data-paste]")) {
  const button = box.querySelector("button"), text = box.querySelector("pre"), told = box.querySelector("[role=status]");
  button.hidden = false;
  button.addEventListener("click", async () => {
    let done = false;
    try {
      await navigator.clipboard.writeText(text.textContent);
      done = true;
    } catch {  // a page from a file may not use the clipboard: the older way
      const range = document.createRange(), chosen = getSelection();
      box.open = true;
      range.selectNodeContents(text);
      chosen.removeAllRanges();
      chosen.addRange(range);
      done = document.execCommand("copy");
    }
    told.textContent = done ? "copied" : "selected: copy it with the keyboard";
  });
}
