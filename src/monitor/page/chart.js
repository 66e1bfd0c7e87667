// The chart of the last minutes: share of marked pixels above, highest score with the threshold below.

const SPAN_MS = 5 * 60 * 1000;
const LEFT = 46;

function scale(values, low, high) {
  for (const value of values) {
    if (value === null || value === undefined) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const room = (high - low) / 20;
  return high > low ? [low - room, high + room] : [low - 1, low + 1];
}

function pane(context, points, [low, high], colour, box, label, now) {
  const { top, height, width } = box;
  const x = (t) => LEFT + (1 - (now - t) / SPAN_MS) * (width - LEFT);
  const y = (value) => top + height - ((value - low) / (high - low)) * height;
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  let open = false;
  let last = 0;
  for (const [t, value] of points) {
    // A few samples without a frame are a slow stream, more are a gap.
    if (value === null || value === undefined || now - t > SPAN_MS) continue;
    if (open && t - last < 3000) context.lineTo(x(t), y(value)); else context.moveTo(x(t), y(value));
    open = true;
    last = t;
  }
  context.stroke();
  context.fillStyle = colour;
  context.textAlign = "left";
  context.fillText(label, LEFT + 4, top + 10);
  return y;
}

export function draw(canvas, points, threshold, eventTimes) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const colours = getComputedStyle(document.documentElement);
  const colour = (name) => colours.getPropertyValue(name).trim();
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "11px system-ui, sans-serif";
  const now = points.length ? points[points.length - 1][0] : Date.now();
  const half = (height - 30) / 2;
  const boxes = [{ top: 4, height: half, width }, { top: half + 12, height: half, width }];
  const shares = points.map(([t, share]) => [t, share === null ? null : share * 100]);
  const scores = points.map(([t, , score]) => [t, score]);
  const ranges = [[0, scale(shares.map((point) => point[1]), 0, 1)[1]],
    scale(scores.map((point) => point[1]), threshold ?? 0, threshold ?? 0)];
  context.fillStyle = colour("--quiet");
  context.strokeStyle = colour("--line");
  context.lineWidth = 1;
  context.textAlign = "right";
  boxes.forEach((box, at) => {
    context.strokeRect(LEFT + 0.5, box.top + 0.5, width - LEFT - 1, box.height);
    const text = (value) => value.toFixed(Math.abs(value) < 10 ? 2 : 0) + (at === 0 ? " %" : "");
    context.fillText(text(ranges[at][1]), LEFT - 4, box.top + 9);
    context.fillText(text(ranges[at][0]), LEFT - 4, box.top + box.height);
  });
  context.textAlign = "center";
  for (let minute = 1; minute < 5; minute += 1) {
    context.fillText(`−${minute} min`, LEFT + (1 - minute / 5) * (width - LEFT), height - 2);
  }
  context.fillStyle = colour("--mark");
  for (const t of eventTimes) {
    const x = LEFT + (1 - (now - t) / SPAN_MS) * (width - LEFT);
    if (x >= LEFT) for (const box of boxes) context.fillRect(x - 1, box.top + box.height - 7, 2, 7);
  }
  pane(context, shares, ranges[0], colour("--share"), boxes[0], "marked share", now);
  const label = "highest score, threshold dashed, events below";
  const y = pane(context, scores, ranges[1], colour("--score"), boxes[1], label, now);
  if (threshold !== null && threshold !== undefined) {
    context.strokeStyle = colour("--mark");
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(LEFT, y(threshold));
    context.lineTo(width, y(threshold));
    context.stroke();
    context.setLineDash([]);
  }
}
