"""Cars and vans lofted from stations along the body. Local axes: y forwards, x to the right, z up; wheels stand on z = 0."""

from math import cos, pi, sin

from .classes import CAR
from .mesh import MeshBuilder

COLOURS = [(0.72, 0.73, 0.74), (0.55, 0.57, 0.59), (0.07, 0.07, 0.08), (0.86, 0.86, 0.84), (0.10, 0.17, 0.36), (0.48, 0.06, 0.07),
           (0.16, 0.24, 0.20), (0.25, 0.27, 0.30), (0.45, 0.52, 0.60), (0.42, 0.34, 0.22), (0.62, 0.10, 0.08), (0.12, 0.32, 0.52)]

# Stations from rear to front: y, bottom z, belt z, roof z, half width of the body, half width of the roof, and what
# lies between the belt and the roof up to the next station: p paint, s side glass, r rear screen, w windscreen.
SHAPES = {
    "hatch": (0.30, (-1.28, 1.26), [
        (-2.02, .42, .76, .78, .70, .60, "p"), (-1.97, .27, .93, .97, .81, .66, "r"), (-1.62, .22, .95, 1.40, .845, .60, "s"),
        (-1.00, .20, .95, 1.455, .86, .60, "p"), (-0.92, .20, .95, 1.46, .86, .60, "s"), (-0.10, .20, .94, 1.465, .865, .60, "p"),
        (-0.02, .20, .94, 1.46, .865, .60, "s"), (0.42, .20, .93, 1.41, .86, .585, "w"), (1.10, .20, .92, .94, .85, .70, "p"),
        (1.72, .21, .80, .83, .82, .64, "p"), (1.97, .25, .66, .70, .74, .58, "p"), (2.02, .34, .56, .58, .66, .54, "p")]),
    "saloon": (0.315, (-1.38, 1.36), [
        (-2.28, .42, .78, .80, .70, .60, "p"), (-2.22, .27, .93, .96, .82, .68, "p"), (-1.72, .22, .97, 1.00, .86, .68, "r"),
        (-1.05, .20, .96, 1.38, .875, .59, "s"), (-0.85, .20, .95, 1.41, .88, .60, "p"), (-0.78, .20, .95, 1.42, .88, .60, "s"),
        (-0.02, .20, .94, 1.43, .88, .60, "p"), (0.06, .20, .94, 1.43, .88, .60, "s"), (0.45, .20, .93, 1.39, .875, .59, "w"),
        (1.15, .20, .91, .93, .865, .72, "p"), (1.95, .21, .78, .81, .83, .66, "p"), (2.24, .25, .66, .69, .75, .6, "p"),
        (2.29, .34, .56, .58, .68, .55, "p")]),
    "tall": (0.36, (-1.36, 1.38), [
        (-2.25, .50, .90, .92, .76, .66, "p"), (-2.20, .34, 1.08, 1.12, .85, .72, "r"), (-2.02, .30, 1.10, 1.66, .89, .66, "s"),
        (-1.15, .28, 1.10, 1.74, .91, .67, "p"), (-1.06, .28, 1.10, 1.75, .91, .67, "s"), (-0.15, .28, 1.09, 1.75, .91, .67, "p"),
        (-0.06, .28, 1.09, 1.75, .91, .67, "s"), (0.52, .28, 1.08, 1.69, .91, .65, "w"), (1.08, .28, 1.06, 1.08, .90, .76, "p"),
        (1.95, .30, .96, .99, .87, .70, "p"), (2.18, .34, .80, .84, .80, .66, "p"), (2.24, .44, .66, .68, .72, .6, "p")]),
    "van": (0.34, (-1.55, 1.62), [
        (-2.50, .45, 1.10, 1.95, .86, .80, "p"), (-2.46, .30, 1.20, 2.08, .93, .84, "p"), (-1.20, .26, 1.20, 2.14, .95, .85, "p"),
        (0.55, .26, 1.20, 2.14, .95, .85, "p"), (0.65, .26, 1.18, 2.12, .95, .85, "s"), (1.25, .26, 1.14, 2.02, .95, .80, "w"),
        (1.95, .26, 1.10, 1.14, .94, .82, "p"), (2.40, .30, .92, .96, .89, .74, "p"), (2.52, .42, .70, .72, .80, .66, "p")]),
}


def section(station):
    """Half cross-section, bottom to roof centre, mirrored into a full one from right to left."""
    _, bottom, belt, roof, body, top, _ = station
    sill = bottom + (belt - bottom) * 0.3
    half = [(body * 0.9, bottom), (body * 0.985, sill), (body, (sill + belt) / 2), (body * 0.965, belt), (top, roof)]
    middle = [(top * 0.55, roof + 0.035), (0, roof + 0.045), (-top * 0.55, roof + 0.035)]
    return half + middle + [(-x, z) for x, z in reversed(half)]


def wheel(b, x, y, radius, side, tyre, rim, arch):
    """Wheel with a dark arch behind it; `side` is +1 on the right."""
    def barrel(r, inner, outer, material, face_material=None):
        rows = [[(x + side * d, y + r * cos(a), radius + r * sin(a)) for a in (2 * pi * k / 18 for k in range(18))] for d in (inner, outer)]
        b.grid(rows if side > 0 else rows[::-1], material, wrap=True)
        b.face(rows[1] if side > 0 else rows[1][::-1], face_material or material)
    barrel(radius * 1.17, -0.10, 0.012, arch)
    barrel(radius, -0.18, 0.022, tyre)
    barrel(radius * 0.62, 0.0, 0.028, rim)
    for k in range(5):
        a = 2 * pi * k / 5 + 0.3
        p = (x + side * 0.03, y + radius * 0.38 * cos(a), radius + radius * 0.38 * sin(a))
        b.blob(p, (0.006, radius * 0.12, radius * 0.12), arch, 3, 6)


def lights(mats):
    """Materials of rear and front lights."""
    return (mats.lamp(CAR, (0.60, 0.03, 0.03), by_day=0.25, by_night=2.5, roughness=0.25, specular=0.6),
            mats.lamp(CAR, (0.85, 0.87, 0.88), by_night=9.0, roughness=0.15, specular=0.8))


def vehicle(mats, rng, kind=None, colour=None):
    """A car or van as a mesh builder."""
    b = MeshBuilder()
    kind = kind or rng.choices(["hatch", "saloon", "tall", "van"], [5, 3, 3, 2])[0]
    if colour is None:
        colour = rng.choice([(0.86, 0.86, 0.84), (0.86, 0.86, 0.84), (0.55, 0.57, 0.59), (0.1, 0.17, 0.36)]) if kind == "van" else rng.choice(COLOURS)
    radius, axles, stations = SHAPES[kind]
    paint, glass = mats.paint(CAR, colour), mats.glass(CAR, (0.07, 0.08, 0.09))
    black, tyre = mats.plain(CAR, (0.06, 0.06, 0.065), 0.6), mats.plain(CAR, (0.07, 0.07, 0.07), 0.9)
    rim, chrome = mats.plain(CAR, (0.55, 0.56, 0.58), 0.35, 0.6), mats.plain(CAR, (0.70, 0.71, 0.72), 0.25, 0.7)
    red, clear = lights(mats)
    amber = mats.plain(CAR, (0.85, 0.40, 0.05), 0.3)
    white, yellow = mats.plain(CAR, (0.90, 0.90, 0.88)), mats.plain(CAR, (0.90, 0.72, 0.10))

    rows = [[(x, s[0], z) for x, z in section(s)] for s in stations]
    marks = [s[6] for s in stations]

    def skin(i, j):
        mark = marks[i]
        if mark == "s" and j in (3, 8):
            return glass
        if mark in "rw" and 3 <= j <= 8:
            return glass
        return black if j in (0, 11) and kind != "saloon" else paint

    b.grid([row[::-1] for row in rows], lambda i, j: skin(i, 11 - j))
    b.face(rows[0], black if kind == "hatch" else paint)
    b.face(rows[-1][::-1], black)
    for s, t in zip(stations, stations[1:]):
        b.face([(-s[4] * .9, s[0], s[1]), (-t[4] * .9, t[0], t[1]), (t[4] * .9, t[0], t[1]), (s[4] * .9, s[0], s[1])], black)
    for side in (-1, 1):
        for y in axles:
            wheel(b, side * (stations[len(stations) // 2][4] * 0.985), y, radius, side, tyre, rim, black)
        rear, front = stations[1], stations[-2]
        tall = 0.26 if kind in ("van", "tall") else 0.1
        b.blob((side * rear[4] * 0.88, rear[0] + 0.03, rear[2] - 0.12), (0.10, 0.09, tall), red, 5, 8, 0.5)
        b.blob((side * rear[4] * 0.88, rear[0] + 0.02, rear[2] - 0.12 - tall * 0.7), (0.085, 0.09, tall * 0.28), amber, 4, 8, 0.5)
        b.blob((side * front[4] * 0.80, front[0] - 0.04, front[2] - 0.02), (0.17, 0.11, 0.085), clear, 5, 8, 0.6)
        screen = next(s for s in stations if s[6] == "w")
        b.blob((side * (screen[4] + 0.08), screen[0] + 0.28, screen[2] + 0.08), (0.10, 0.06, 0.075), paint, 5, 8, 0.7)
        for y in (stations[len(stations) // 2][0] - 0.35, screen[0] - 0.55):
            b.box((side * stations[5][4] - 0.012, y, screen[2] - 0.16), (side * stations[5][4] + 0.012, y + 0.17, screen[2] - 0.12), black)
    front, rear = stations[-1], stations[0]
    b.box((-front[4] * 0.72, front[0] - 0.05, front[1] + 0.02), (front[4] * 0.72, front[0] + 0.035, front[1] + 0.13), black)
    b.box((-0.30, front[0] + 0.0, front[2] - 0.04), (0.30, front[0] + 0.02, front[2] + 0.02), chrome)
    b.box((-0.26, front[0], front[1] + 0.03), (0.26, front[0] + 0.045, front[1] + 0.13), white)
    b.box((-rear[4] * 0.95, rear[0] - 0.05, rear[1] - 0.02), (rear[4] * 0.95, rear[0] + 0.08, rear[1] + 0.13), black)
    b.box((-0.26, rear[0] - 0.055, rear[1] + 0.15), (0.26, rear[0] + 0.01, rear[1] + 0.26), yellow)
    if kind == "van":
        b.box((-0.62, rear[0] - 0.012, 1.25), (-0.06, rear[0] + 0.03, 1.78), glass)
        b.box((0.06, rear[0] - 0.012, 1.25), (0.62, rear[0] + 0.03, 1.78), glass)
        b.box((-0.012, rear[0] - 0.015, 0.6), (0.012, rear[0] + 0.03, 1.95), black)
    return b


def lorry(mats, rng):
    """A lorry with a box body, or a bus."""
    b = MeshBuilder()
    red, clear = lights(mats)
    paint = mats.paint(CAR, rng.choice(COLOURS))
    body = mats.plain(CAR, rng.choice(COLOURS + [(0.86, 0.86, 0.84)] * 6), 0.5, mottle=0.15)
    black, glass = mats.plain(CAR, (0.06, 0.06, 0.065), 0.6), mats.glass(CAR, (0.07, 0.08, 0.09))
    tyre, rim = mats.plain(CAR, (0.07, 0.07, 0.07), 0.9), mats.plain(CAR, (0.55, 0.56, 0.58), 0.35, 0.6)
    yellow = mats.plain(CAR, (0.90, 0.72, 0.10))
    length, half, radius = rng.uniform(6.0, 13.0), 1.25, 0.5
    bus = rng.random() < 0.3
    rear, front = -length / 2, length / 2
    if bus:
        top = rng.uniform(2.9, 4.2)
        b.box((-half, rear, 0.4), (half, front, top), paint)
        levels = [1.3] if top < 3.6 else [1.3, 2.8]
        for z in levels:
            for side in (-1, 1):
                y = rear + 0.4
                while y < front - 1.4:
                    b.box((side * half - 0.01, y, z), (side * half + 0.01, y + 1.2, z + 0.9), glass)
                    y += 1.35
            b.box((-half * 0.85, front, z - 0.3), (half * 0.85, front + 0.012, z + 0.95), glass)
            b.box((-half * 0.75, rear - 0.012, z + 0.1), (half * 0.75, rear, z + 0.9), glass)
    else:
        top, floor, cab = rng.uniform(3.2, 4.0), 1.05, front - 2.2
        b.box((-half, rear, floor), (half, cab - 0.5, top), body)
        for x in (-0.02, half * 0.45, -half * 0.5):
            b.box((x, rear - 0.015, floor + 0.15), (x + 0.03, rear, top - 0.1), black)
        b.box((-half * 0.8, rear + 0.3, 0.75), (half * 0.8, front - 0.3, floor), black)
        b.box((-half * 0.98, cab, 0.55), (half * 0.98, front, min(top - 0.2, 2.9)), paint)
        b.box((-half * 0.85, front, 1.65), (half * 0.85, front + 0.012, 2.5), glass)
        for side in (-1, 1):
            b.box((side * half * 0.98 - 0.012, cab + 0.7, 1.7), (side * half * 0.98 + 0.012, front - 0.25, 2.4), glass)
    for side in (-1, 1):
        for y in (rear + 1.2, rear + 2.4, front - 1.3):
            wheel(b, side * half * 0.98, y, radius, side, tyre, rim, black)
        b.box((side * half * 0.9 - 0.14, rear - 0.03, 0.75), (side * half * 0.9 + 0.14, rear + 0.02, 0.95), red)
        b.box((side * half * 0.75 - 0.16, front, 0.7), (side * half * 0.75 + 0.16, front + 0.03, 0.9), clear)
    b.box((-half * 0.95, rear - 0.03, 0.45), (half * 0.95, rear + 0.05, 0.62), black)
    b.box((-0.26, rear - 0.04, 0.65), (0.26, rear - 0.02, 0.77), yellow)
    return b
