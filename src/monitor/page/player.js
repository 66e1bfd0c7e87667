// The pictures of a stream, each shown when the one before it is: a slow connection gets fewer.

import { request } from "/requests.js";

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

export class Player {
  constructor(image, everyMs, shown) {
    this.image = image;
    this.everyMs = everyMs;
    this.shown = shown;
    this.turn = 0;
    this.name = null;
  }

  play(name) {
    if (this.name === name) return;
    this.name = name;
    this.turn += 1;
    if (name) this.run(name, this.turn);
  }

  async run(name, turn) {
    let number = 0;
    let url = null;
    while (this.turn === turn) {
      const begin = performance.now();
      try {
        const response = await request(`/api/streams/${encodeURIComponent(name)}/picture?after=${number}`);
        if (response.status === 401) break;
        if (response.status === 200) {
          number = Number(response.headers.get("X-Picture"));
          const next = URL.createObjectURL(await response.blob());
          if (this.turn === turn) {
            this.image.src = next;
            await this.image.decode().catch(() => {});
            this.shown?.(true);
          }
          if (url) URL.revokeObjectURL(url);
          url = next;
        } else {
          this.shown?.(false);
          if (response.status !== 204) await pause(1000);
        }
      } catch {
        await pause(1000);
      }
      const left = this.everyMs - (performance.now() - begin);
      if (left > 0) await pause(left);
    }
    if (url) URL.revokeObjectURL(url);
  }
}
