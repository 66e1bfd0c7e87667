// The list of events, and the recording of one of them at its time.

import { explain, request } from "/requests.js";

const SHOWN = 100;

export class Events {
  constructor(parts) {
    Object.assign(this, parts);
    this.known = new Map();
    this.dialog.addEventListener("close", () => { this.video.removeAttribute("src"); this.video.load(); });
    this.closeButton.addEventListener("click", () => this.dialog.close());
    this.video.addEventListener("error", () => {
      if (this.video.hasAttribute("src")) this.said.textContent = "This browser cannot play the file.";
    });
  }

  // Milliseconds at which the events of a stream began.
  times(stream) {
    return [...this.known.values()]
      .filter((event) => event.stream === stream && event.start_wall)
      .map((event) => Date.parse(event.start_wall));
  }

  show(event) {
    const before = this.known.get(event.id);
    this.known.set(event.id, event);
    const item = (before && document.getElementById(`event-${event.id}`)) || this.add(event);
    item.className = event.alarm ? "alarm" : "";
    const [title, text] = item.querySelectorAll(".title, .figures");
    title.textContent = `${event.label}${event.type === "end" ? "" : ", now"}`;
    text.textContent = [event.stream, when(event), `${(event.end_s - event.start_s).toFixed(1)} s`,
      `severity ${event.severity.toFixed(2)}`, `score ${event.peak_score.toFixed(2)}`].join(" · ");
    if (this.known.size > SHOWN) {
      const oldest = this.known.keys().next().value;
      this.known.delete(oldest);
      document.getElementById(`event-${oldest}`)?.remove();
    }
    this.none.hidden = true;
  }

  add(event) {
    const item = document.createElement("li");
    item.id = `event-${event.id}`;
    const place = event.recorded ? document.createElement("button") : document.createElement("div");
    if (event.recorded) {
      place.type = "button";
      place.addEventListener("click", () => this.replay(this.known.get(event.id) ?? event));
    }
    if (event.picture) {
      const image = document.createElement("img");
      image.src = `/api/events/${encodeURIComponent(event.id)}/picture`;
      image.alt = "";
      place.append(image);
    }
    const title = document.createElement("span");
    title.className = "title";
    place.append(title);
    if (event.recorded) {
      const hint = document.createElement("span");
      hint.className = "play";
      hint.textContent = "Play";
      place.append(hint);
    }
    const text = document.createElement("p");
    text.className = "figures";
    item.append(place, text);
    this.list.prepend(item);
    return item;
  }

  async replay(event) {
    this.title.textContent = `${event.label} in ${event.stream}, ${when(event)}`;
    this.said.textContent = "";
    this.file.hidden = true;
    this.video.hidden = true;
    if (!this.dialog.open) this.dialog.showModal();
    const response = await request(`/api/events/${encodeURIComponent(event.id)}/recording`).catch(() => null);
    if (!response?.ok) {
      this.said.textContent = response ? await explain(response) : "the server cannot be reached";
      return;
    }
    const { video, at_s: at, file } = await response.json();
    this.file.textContent = file;
    this.file.href = video;
    this.file.download = file;
    this.file.hidden = false;
    this.video.hidden = false;
    this.video.src = `${video}#t=${at.toFixed(2)}`;
    this.video.play().catch(() => {});
  }
}

function when(event) {
  return event.start_wall ? new Date(event.start_wall).toLocaleTimeString() : `${event.start_s.toFixed(1)} s`;
}
