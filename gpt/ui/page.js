// The page's keyboard: Ctrl+Enter (or Cmd+Enter) writes, Escape stops.
document.addEventListener("keydown", (event) => {
  const starts = event.key === "Enter" && (event.ctrlKey || event.metaKey);
  if (!starts && event.key !== "Escape") return;
  // Of the two modes' buttons only the shown one's has a place on the page.
  const button = [...document.querySelectorAll(starts ? "#generate, #say" : "#stop, #dialogue-stop")].find(
    (found) => found.offsetParent !== null && !found.disabled,
  );
  if (!button) return;
  event.preventDefault();
  button.click();
});
