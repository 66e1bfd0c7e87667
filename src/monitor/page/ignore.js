// Ignored parts: drawn over the picture, added by the mouse or as text, removed by a button.

const SVG = "http://www.w3.org/2000/svg";

export class Ignored {
  // `change` is called with the new list of polygons, `poly:x,y x,y x,y`.
  constructor(elements, change) {
    Object.assign(this, elements);
    this.change = change;
    this.parts = [];
    this.corners = null;
    // The share of the picture's width that shows the frame: half of it side by side.
    this.across = 1;
    this.drawButton.addEventListener("click", () => (this.corners ? this.end(false) : this.begin()));
    this.typeButton.addEventListener("click", () => {
      this.typed.hidden = !this.typed.hidden;
      if (!this.typed.hidden) this.cornersInput.focus();
    });
    this.typed.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.cornersInput.value.trim();
      if (!text) return;
      this.change([...this.parts, `poly:${text}`]).then((done) => { if (done) this.cornersInput.value = ""; });
    });
    this.frame.addEventListener("click", (event) => this.click(event));
    this.frame.addEventListener("dblclick", () => this.end(true));
    document.addEventListener("keydown", (event) => this.key(event));
  }

  begin() {
    this.corners = [];
    this.help.hidden = false;
    this.frame.classList.add("drawing");
    this.drawButton.textContent = "Cancel";
    this.show();
  }

  end(keep) {
    const corners = this.corners;
    if (!corners) return;
    this.corners = null;
    this.help.hidden = true;
    this.frame.classList.remove("drawing");
    this.drawButton.textContent = "Draw a polygon";
    if (keep && corners.length >= 3) {
      this.change([...this.parts, `poly:${corners.map(([x, y]) => `${x},${y}`).join(" ")}`]);
    }
    this.show();
  }

  click(event) {
    // The second click of a double click is no corner.
    if (!this.corners || event.detail > 1) return;
    const box = this.box();
    const share = (at, start, size) => Math.min(1, Math.max(0, (at - start) / size)).toFixed(3) * 1;
    const x = share(event.clientX, box.left, box.width * this.across);
    this.corners.push([x, share(event.clientY, box.top, box.height)]);
    this.show();
  }

  key(event) {
    if (!this.corners || event.target.closest("input, select")) return;
    if (event.key === "Enter" && event.target !== this.drawButton) this.end(true);
    else if (event.key === "Escape") this.end(false);
    else if (event.key === "Backspace") { this.corners.pop(); this.show(); } else return;
    event.preventDefault();
  }

  // The place of the picture within its element, which may leave room beside it.
  box() {
    const element = this.picture.getBoundingClientRect();
    const shape = (this.picture.naturalWidth || 16) / (this.picture.naturalHeight || 9);
    const width = Math.min(element.width, element.height * shape);
    const height = width / shape;
    const left = element.left + (element.width - width) / 2;
    return { left, top: element.top + (element.height - height) / 2, width, height };
  }

  set(parts, across) {
    this.across = across;
    const same = JSON.stringify(parts) === JSON.stringify(this.parts);
    this.parts = parts;
    this.show();
    if (same && this.list.childElementCount === parts.length) return;
    this.list.replaceChildren(...parts.map((part, at) => {
      const item = document.createElement("li");
      const name = document.createElement("span");
      name.textContent = `Polygon ${at + 1}, ${part.split(" ").length} corners`;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "Remove";
      remove.setAttribute("aria-label", `Remove polygon ${at + 1}`);
      remove.addEventListener("click", () => this.change(this.parts.filter((_, other) => other !== at)));
      item.append(name, remove);
      return item;
    }));
  }

  show() {
    const frame = this.frame.getBoundingClientRect();
    const box = this.box();
    if (!frame.width) return;
    const at = ([x, y]) => `${(box.left - frame.left + x * box.width * this.across) / frame.width},${
      (box.top - frame.top + y * box.height) / frame.height}`;
    const shape = (kind, corners) => {
      const element = document.createElementNS(SVG, kind);
      element.setAttribute("points", corners.map(at).join(" "));
      return element;
    };
    const corners = (part) => part.replace("poly:", "").split(" ").map((pair) => pair.split(",").map(Number));
    const shapes = this.parts.map((part) => shape("polygon", corners(part)));
    if (this.corners) shapes.push(shape("polyline", this.corners));
    this.svg.replaceChildren(...shapes);
  }
}
