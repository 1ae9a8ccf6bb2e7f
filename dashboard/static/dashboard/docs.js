// The pages of the documentation work without scripts. With them, code can be copied and documents searched.

const COPIED_MS = 2_000;

/** @param {HTMLElement} pre */
function addCopyButton(pre) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy-code";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(pre.textContent.replace(/\n$/, ""));
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
  });
  const frame = document.createElement("div");
  frame.className = "code";
  pre.replaceWith(frame);
  frame.append(pre, button);
}

/** @param {HTMLInputElement} input */
function followSearch(input) {
  const row = /** @type {HTMLElement} */ (input.closest("[hidden]"));
  const status = /** @type {HTMLElement} */ (row.querySelector("[role=status]"));
  const items = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-searched] > li")]);
  row.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of items) item.hidden = !words.every((word) => item.textContent.toLowerCase().includes(word));
    const count = items.filter((item) => !item.hidden).length;
    status.textContent = words.length ? `${count} ${count === 1 ? "document" : "documents"}` : "";
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = /** @type {Element} */ (event.target).closest("input, textarea");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.focus();
  });
}

for (const pre of document.querySelectorAll("main pre")) addCopyButton(/** @type {HTMLElement} */ (pre));
const search = /** @type {HTMLInputElement | null} */ (document.getElementById("docs-search"));
if (search) followSearch(search);
