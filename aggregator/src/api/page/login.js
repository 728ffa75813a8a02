// Exchanges the token for a session; the token is kept nowhere in the browser.
const form = document.getElementById("form");
const field = document.getElementById("token");
const error = document.getElementById("error");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  error.textContent = "";
  try {
    const response = await fetch("/api/v1/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: field.value }),
    });
    if (response.ok) {
      location.assign("/");
      return;
    }
    error.textContent = (await response.json()).detail;
  } catch (failure) {
    error.textContent = `The aggregator does not answer: ${failure.message}`;
  }
  field.value = "";
  field.focus();
});
