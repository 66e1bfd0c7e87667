// Requests to the server. One that needs a login is an event `locked` of the window.

export async function request(path, body) {
  const response = await fetch(path, body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  if (response.status === 401 && path !== "/login") window.dispatchEvent(new Event("locked"));
  return response;
}

export async function explain(response) {
  const answer = await response.json().catch(() => ({}));
  return answer.error || `the server answered ${response.status}`;
}
