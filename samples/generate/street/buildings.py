"""Houses, shops and blocks of flats. Local axes: x along the front, y from the front inwards, z up."""

from .classes import BUILDING
from .mesh import MeshBuilder

BRICKS = [(0.52, 0.30, 0.22), (0.60, 0.40, 0.28), (0.70, 0.60, 0.44), (0.45, 0.25, 0.19), (0.66, 0.52, 0.38), (0.40, 0.33, 0.29)]
PLASTERS = [(0.88, 0.85, 0.78), (0.80, 0.76, 0.66), (0.78, 0.70, 0.58), (0.70, 0.72, 0.72), (0.84, 0.78, 0.70), (0.74, 0.66, 0.62)]
ROOFS = [(0.30, 0.28, 0.28), (0.42, 0.24, 0.17), (0.36, 0.28, 0.23), (0.24, 0.25, 0.28)]
DOORS = [(0.10, 0.12, 0.16), (0.35, 0.06, 0.06), (0.07, 0.20, 0.13), (0.08, 0.14, 0.32), (0.80, 0.80, 0.78), (0.30, 0.18, 0.10)]
SHOPFRONTS = [(0.10, 0.22, 0.20), (0.42, 0.08, 0.08), (0.10, 0.12, 0.30), (0.16, 0.16, 0.17), (0.62, 0.48, 0.16), (0.20, 0.34, 0.24)]


class Look:
    """The materials of one building."""

    def __init__(self, mats, rng):
        if rng.random() < 0.6:
            self.wall = mats.brick(rng.choice(BRICKS), rng.choice([(0.68, 0.66, 0.62), (0.48, 0.46, 0.44)]))
        else:
            self.wall = mats.plaster(rng.choice(PLASTERS))
        self.trim = mats.plain(BUILDING, rng.choice([(0.86, 0.85, 0.82), (0.74, 0.71, 0.64), (0.32, 0.30, 0.28)]), mottle=0.2)
        self.frame = mats.plain(BUILDING, rng.choice([(0.90, 0.90, 0.88), (0.90, 0.90, 0.88), (0.22, 0.19, 0.17)]))
        self.roof = mats.tiles(rng.choice(ROOFS))
        self.door = mats.plain(BUILDING, rng.choice(DOORS), roughness=0.4)
        self.pipe = mats.plain(BUILDING, (0.12, 0.12, 0.13))
        self.panes = [mats.glass(BUILDING, t) for t in ((0.10, 0.12, 0.14), (0.16, 0.17, 0.18), (0.24, 0.23, 0.21))]
        if mats.night:
            self.panes[rng.randrange(3)] = mats.lamp(BUILDING, (0.95, 0.80, 0.55), by_night=rng.choice([0.2, 0.6]))
        self.curtain = mats.plain(BUILDING, (0.62, 0.58, 0.50))


def pierced_wall(b, x0, x1, z0, z1, openings, wall, y=0.0):
    """Wall in the plane `y` with rectangular openings (x0, x1, z0, z1)."""
    xs = sorted({x0, x1, *(v for o in openings for v in o[:2])})
    zs = sorted({z0, z1, *(v for o in openings for v in o[2:])})
    for a, c in zip(xs, xs[1:]):
        for d, e in zip(zs, zs[1:]):
            mid = ((a + c) / 2, (d + e) / 2)
            if not any(o[0] < mid[0] < o[1] and o[2] < mid[1] < o[3] for o in openings):
                b.face([(a, y, d), (c, y, d), (c, y, e), (a, y, e)], wall)


def reveal(b, opening, depth, material, y=0.0):
    """The four inner sides of an opening."""
    x0, x1, z0, z1 = opening
    k = y + depth
    b.face([(x0, y, z0), (x0, y, z1), (x0, k, z1), (x0, k, z0)], material)
    b.face([(x1, y, z1), (x1, y, z0), (x1, k, z0), (x1, k, z1)], material)
    b.face([(x0, y, z0), (x0, k, z0), (x1, k, z0), (x1, y, z0)], material)
    b.face([(x0, y, z1), (x1, y, z1), (x1, k, z1), (x0, k, z1)], material)


def window(b, opening, look, rng, y=0.0, bars=(1, 1), sill=True):
    """Recessed window with frame, glazing bars, and now and then a curtain."""
    x0, x1, z0, z1 = opening
    depth, f = 0.13, 0.055
    reveal(b, opening, depth, look.trim, y)
    k = y + depth
    b.face([(x0, k, z0), (x1, k, z0), (x1, k, z1), (x0, k, z1)], rng.choice(look.panes))
    if rng.random() < 0.3:
        w = (x1 - x0) * rng.uniform(0.12, 0.3)
        for a, c in ((x0, x0 + w), (x1 - w, x1)):
            b.face([(a, k - 0.004, z0), (c, k - 0.004, z0), (c, k - 0.004, z1), (a, k - 0.004, z1)], look.curtain)
    front = k - 0.05
    for a, c, d, e in ((x0, x0 + f, z0, z1), (x1 - f, x1, z0, z1), (x0, x1, z0, z0 + f), (x0, x1, z1 - f, z1)):
        b.box((a, front, d), (c, k, e), look.frame, skip="Y")
    for n in range(bars[0]):
        x = x0 + (x1 - x0) * (n + 1) / (bars[0] + 1)
        b.box((x - 0.02, front + 0.01, z0), (x + 0.02, k, z1), look.frame, skip="Y")
    for n in range(bars[1]):
        z = z0 + (z1 - z0) * (n + 1) / (bars[1] + 1)
        b.box((x0, front + 0.01, z - 0.02), (x1, k, z + 0.02), look.frame, skip="Y")
    if sill:
        b.box((x0 - 0.08, y - 0.07, z0 - 0.09), (x1 + 0.08, y + 0.02, z0), look.trim)
        b.box((x0 - 0.1, y - 0.012, z1), (x1 + 0.1, y + 0.01, z1 + 0.18), look.trim)


def front_door(b, opening, look, y=0.0):
    x0, x1, z0, z1 = opening
    reveal(b, opening, 0.2, look.trim, y)
    k = y + 0.2
    light = z1 - 0.4
    b.face([(x0, k, z0), (x1, k, z0), (x1, k, light), (x0, k, light)], look.door)
    b.face([(x0, k, light), (x1, k, light), (x1, k, z1), (x0, k, z1)], look.panes[0])
    b.box((x0, k - 0.04, light - 0.04), (x1, k, light + 0.04), look.frame)
    w = (x1 - x0) / 2
    for col in (0, 1):
        for low, high in ((0.15, 0.8), (0.95, 1.5)):
            b.box((x0 + col * w + 0.08, k - 0.015, z0 + low), (x0 + (col + 1) * w - 0.08, k, z0 + high), look.door)
    for a, c in ((x0 - 0.14, x0), (x1, x1 + 0.14)):
        b.box((a, y - 0.04, z0), (c, y + 0.02, z1 + 0.1), look.trim)
    b.box((x0 - 0.22, y - 0.16, z1 + 0.1), (x1 + 0.22, y + 0.02, z1 + 0.24), look.trim)
    b.box((x0 - 0.15, y - 0.35, 0.0), (x1 + 0.15, y + 0.2, z0), look.trim)


def bay(b, x, look, rng, top):
    """Three-sided bay window on the ground floor."""
    out, half, cut = 0.75, 1.05, 0.45
    plan = [(x - half, 0.0), (x - half + cut, -out), (x + half - cut, -out), (x + half, 0.0)]
    for (xa, ya), (xb, yb) in zip(plan, plan[1:]):
        b.face([(xa, ya, 0), (xb, yb, 0), (xb, yb, 0.75), (xa, ya, 0.75)], look.wall)
        b.face([(xa, ya, 0.75), (xb, yb, 0.75), (xb, yb, top - 0.3), (xa, ya, top - 0.3)], rng.choice(look.panes))
        b.face([(xa, ya, top - 0.3), (xb, yb, top - 0.3), (xb, yb, top), (xa, ya, top)], look.trim)
        for k in (0.0, 0.5, 1.0):
            px, py = xa + (xb - xa) * k, ya + (yb - ya) * k
            b.tube((px, py, 0.75), (px, py, top - 0.3), 0.05, 0.05, look.frame, sides=4, caps=False)
    b.box((x - half, -out - 0.03, 0.70), (x + half, 0, 0.78), look.trim)
    b.face([(x - half - 0.1, 0, top + 0.5), (x - half - 0.1, -0.05, top), (x - half + cut, -out - 0.12, top),
            (x + half - cut, -out - 0.12, top), (x + half + 0.1, -0.05, top), (x + half + 0.1, 0, top + 0.5)], look.roof)


def gable_roof(b, w, depth, eaves, rise, look, over=0.3):
    """Ridge along the street; gable walls at both ends; chimneys are added by the caller."""
    x0, x1, mid = -w / 2, w / 2, depth / 2
    y0, y1, low = -over, depth + over, eaves - over * rise / mid
    b.face([(x0, y0, low), (x1, y0, low), (x1, mid, eaves + rise), (x0, mid, eaves + rise)], look.roof)
    b.face([(x1, y1, low), (x0, y1, low), (x0, mid, eaves + rise), (x1, mid, eaves + rise)], look.roof)
    b.face([(x0, depth, eaves), (x0, 0, eaves), (x0, mid, eaves + rise)], look.wall)
    b.face([(x1, 0, eaves), (x1, depth, eaves), (x1, mid, eaves + rise)], look.wall)
    b.box((x0, y0 - 0.08, low - 0.12), (x1, y0 + 0.04, low + 0.02), look.pipe)
    b.box((x0, y0 + 0.04, low - 0.1), (x1, 0, low - 0.06), look.trim)


def chimney(b, x, y, base, top, look):
    b.box((x - 0.35, y - 0.3, base), (x + 0.35, y + 0.3, top), look.wall)
    b.box((x - 0.42, y - 0.37, top), (x + 0.42, y + 0.37, top + 0.12), look.trim)
    for k in (-0.18, 0.18):
        b.tube((x + k, y, top + 0.1), (x + k, y, top + 0.5), 0.12, 0.09, look.roof, sides=6)


def sides_and_back(b, w, depth, top, look):
    b.box((-w / 2, 0, 0), (w / 2, depth, top), look.wall, skip="yzZ")


def house(mats, rng, w, floors, look=None, terrace=False):
    """Dwelling with door, windows (perhaps a bay), pitched roof and chimney."""
    b, look = MeshBuilder(), look or Look(mats, rng)
    storey, depth = rng.uniform(2.7, 3.0), rng.uniform(7.5, 9.5)
    eaves = storey * floors + 0.25
    door_x = (w / 2 - 1.0) * (1 if rng.random() < 0.5 else -1)
    width, openings, frames = rng.uniform(1.0, 1.35), [], []
    door = (door_x - 0.48, door_x + 0.48, 0.18, 2.5)
    openings.append(door)
    columns = [(-w / 4, w / 4)] if w < 6.5 else [(-w / 3, 0.0, w / 3)]
    has_bay = rng.random() < 0.45
    bars = rng.choice([(0, 1), (1, 1), (1, 0), (1, 3)])
    for floor in range(floors):
        z = floor * storey + 0.95
        for x in columns[0]:
            if floor == 0 and (abs(x - door_x) < width / 2 + 0.75 or has_bay):
                continue
            frames.append((x - width / 2, x + width / 2, z, z + rng.choice([1.35, 1.45])))
    pierced_wall(b, -w / 2, w / 2, 0, eaves, openings + frames, look.wall)
    for opening in frames:
        window(b, opening, look, rng, bars=bars)
    front_door(b, door, look)
    if has_bay:
        bay(b, -door_x * 0.45, look, rng, 2.45)
    if rng.random() < 0.5:
        b.box((-w / 2, -0.03, storey - 0.02), (w / 2, 0.0, storey + 0.14), look.trim)
    b.box((-w / 2, -0.03, 0), (w / 2, 0.0, 0.22), look.trim)
    sides_and_back(b, w, depth, eaves, look)
    rise = depth / 2 * rng.uniform(0.65, 0.9)
    gable_roof(b, w, depth, eaves, rise, look, 0.3)
    chimney(b, w / 2 - 0.5, depth / 2 - 0.3, eaves + rise * 0.6, eaves + rise + rng.uniform(0.7, 1.3), look)
    b.tube((-w / 2 + 0.12, -0.09, 0), (-w / 2 + 0.12, -0.09, eaves - 0.15), 0.045, 0.045, look.pipe, sides=5, caps=False)
    return b


def shop(mats, rng, w, floors):
    """Shop window with a fascia below flats."""
    b, look = MeshBuilder(), Look(mats, rng)
    colour = rng.choice(SHOPFRONTS)
    front = mats.plain(BUILDING, colour, roughness=0.5)
    letters = mats.plain(BUILDING, rng.choice([(0.92, 0.9, 0.84), (0.85, 0.7, 0.25)]))
    ground, storey, depth = 3.5, 2.9, 10.0
    top = ground + storey * floors + 0.3
    side = rng.choice([-1, 1])
    door = (side * (w / 2 - 0.9) - 0.5, side * (w / 2 - 0.9) + 0.5, 0.1, 2.5)
    pane = (-w / 2 + 0.4, door[0] - 0.25, 0.55, 2.6) if side > 0 else (door[1] + 0.25, w / 2 - 0.4, 0.55, 2.6)
    upper, columns = [], max(2, int(w // 2.4))
    for floor in range(floors):
        for n in range(columns):
            x = -w / 2 + w * (n + 0.5) / columns
            z = ground + floor * storey + 0.8
            upper.append((x - 0.52, x + 0.52, z, z + 1.5))
    pierced_wall(b, -w / 2, w / 2, 0, ground, [door, pane], front)
    pierced_wall(b, -w / 2, w / 2, ground, top, upper, look.wall)
    window(b, pane, look, rng, bars=(2, 0), sill=False)
    front_door(b, door, look)
    for opening in upper:
        window(b, opening, look, rng, bars=(0, 1))
    b.box((-w / 2 + 0.1, -0.22, 2.75), (w / 2 - 0.1, 0.0, 3.4), front)
    x = -w * 0.32
    while x < w * 0.3:
        step = rng.uniform(0.16, 0.32)
        b.box((x, -0.235, 2.93), (x + step, -0.22, 3.22), letters)
        x += step + rng.choice([0.07, 0.07, 0.07, 0.3])
    if rng.random() < 0.4:
        awning = mats.plain(BUILDING, rng.choice(SHOPFRONTS + [(0.8, 0.78, 0.7)]))
        b.face([(-w / 2 + 0.2, -1.1, 2.35), (w / 2 - 0.2, -1.1, 2.35), (w / 2 - 0.2, -0.2, 2.8), (-w / 2 + 0.2, -0.2, 2.8)], awning)
        b.face([(-w / 2 + 0.2, -1.1, 2.15), (w / 2 - 0.2, -1.1, 2.15), (w / 2 - 0.2, -1.1, 2.35), (-w / 2 + 0.2, -1.1, 2.35)], awning)
    sides_and_back(b, w, depth, top, look)
    gable_roof(b, w, depth, top, 3.2, look, 0.25)
    chimney(b, -w / 2 + 0.5, depth / 2 + 0.3, top + 2, top + 4.2, look)
    return b


def flats(mats, rng, w, floors):
    """Plain block with regular windows, stair tower strip and a flat roof."""
    b, look = MeshBuilder(), Look(mats, rng)
    storey, depth = 2.8, 11.0
    top = storey * floors + 0.8
    columns, openings = max(3, int(w // 2.6)), []
    wide = rng.uniform(0.65, 0.95)
    for floor in range(floors):
        for n in range(columns):
            x = -w / 2 + w * (n + 0.5) / columns
            z = floor * storey + 0.95
            openings.append((x - wide, x + wide, z, z + 1.35))
    door = (-0.6, 0.6, 0.1, 2.5)
    openings = [o for o in openings if not (o[2] < 2.5 and o[0] < 0.9 and o[1] > -0.9)]
    pierced_wall(b, -w / 2, w / 2, 0, top, openings + [door], look.wall)
    for opening in openings:
        window(b, opening, look, rng, bars=(1, 0))
    front_door(b, door, look)
    if rng.random() < 0.6:
        for floor in range(1, floors + 1):
            b.box((-w / 2, -0.04, floor * storey + 0.12), (w / 2, 0.0, floor * storey + 0.42), look.trim)
    sides_and_back(b, w, depth, top, look)
    b.box((-w / 2 - 0.15, -0.2, top), (w / 2 + 0.15, depth + 0.2, top + 0.35), look.trim)
    return b
