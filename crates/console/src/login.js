// What stands behind the # of a link is not sent to anybody by the browser itself, and stands in no log.
const key = location.hash.slice(1);
if (key) {
  history.replaceState(null, "", location.pathname);
  const form = document.querySelector("form");
  form.elements.key.value = key;
  form.submit();
}
