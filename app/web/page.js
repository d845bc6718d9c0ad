// The terminal takes keys only while its hidden text field has the focus. Give it that at once, and again whenever the
// page comes back to the front.
function focusTerminal() {
  document.querySelector(".xterm-helper-textarea")?.focus();
}

window.addEventListener("focus", focusTerminal);
window.addEventListener("load", () => {
  focusTerminal();
  new MutationObserver(focusTerminal).observe(document.getElementById("terminal"), { childList: true });
});
