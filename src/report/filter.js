for (const field of document.querySelectorAll("input[type=search]")) {
  const rows = document.getElementById(field.dataset.of).tBodies[0].rows;
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
