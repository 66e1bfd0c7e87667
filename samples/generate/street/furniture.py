"""Street furniture: lamp posts, signs, traffic lights, railings, fences, garden walls. Local y points away from the road."""

from math import cos, pi, sin

from .classes import BUILDING, FENCE, POLE, SIGN
from .mesh import MeshBuilder


def disc(b, centre, radius, thickness, material, back, sides=18):
    """Upright disc that faces -y."""
    x, y, z = centre
    rim = [(x + radius * cos(2 * pi * k / sides), z + radius * sin(2 * pi * k / sides)) for k in range(sides)]
    b.face([(u, y, w) for u, w in rim], material)
    b.grid([[(u, y, w) for u, w in rim], [(u, y + thickness, w) for u, w in rim]], back, wrap=True)
    b.face([(u, y + thickness, w) for u, w in reversed(rim)], back)


def lamp_post(mats, rng, height=7.0):
    """Tapered column with an arm over the road (towards -y)."""
    b = MeshBuilder()
    steel = mats.plain(POLE, rng.choice([(0.42, 0.44, 0.45), (0.16, 0.18, 0.18), (0.55, 0.56, 0.55)]), 0.5, mottle=0.25)
    lens = mats.lamp(POLE, (0.85, 0.85, 0.80), by_night=12.0, roughness=0.3)
    b.tube((0, 0, 0), (0, 0, 1.1), 0.105, 0.10, steel, 8)
    b.tube((0, 0, 1.1), (0, 0, height), 0.065, 0.045, steel, 8, caps=False)
    b.tube((0, 0, height), (0, -0.5, height + 0.28), 0.04, 0.035, steel, 6, caps=False)
    b.tube((0, -0.5, height + 0.28), (0, -1.3, height + 0.34), 0.035, 0.03, steel, 6)
    b.blob((0, -1.5, height + 0.33), (0.13, 0.38, 0.08), steel, 5, 8)
    b.blob((0, -1.5, height + 0.27), (0.10, 0.3, 0.06), lens, 4, 8)
    return b


def sign(mats, rng, kind=None):
    """Pole with a sign plate that faces -y (the caller turns it to the traffic)."""
    b = MeshBuilder()
    steel, back = mats.plain(POLE, (0.45, 0.46, 0.47), 0.5, mottle=0.2), mats.plain(SIGN, (0.42, 0.43, 0.43), 0.6)
    red, white = mats.plain(SIGN, (0.74, 0.07, 0.08), 0.5), mats.plain(SIGN, (0.93, 0.93, 0.92), 0.5)
    blue, black = mats.plain(SIGN, (0.06, 0.22, 0.55), 0.5), mats.plain(SIGN, (0.05, 0.05, 0.05), 0.6)
    green = mats.plain(SIGN, (0.05, 0.34, 0.20), 0.5)
    kind = kind or rng.choice(["limit", "warning", "blue", "plate", "limit", "warning"])
    z = rng.uniform(2.3, 2.6)
    b.tube((0, 0.06, 0), (0, 0.06, z + 0.3), 0.038, 0.038, steel, 7)
    if kind == "limit":
        disc(b, (0, 0, z), 0.32, 0.03, red, back)
        disc(b, (0, -0.004, z), 0.24, 0.002, white, back)
        for x in (-0.09, 0.09):
            b.box((x - 0.06, -0.010, z - 0.11), (x + 0.06, -0.006, z + 0.11), black, skip="Y")
            b.box((x - 0.025, -0.012, z - 0.07), (x + 0.025, -0.010, z + 0.07), white, skip="Y")
    elif kind == "warning":
        for size, y, colour in ((0.42, 0.0, red), (0.29, -0.005, white)):
            corners = [(-size, z - size * 0.62), (size, z - size * 0.62), (0, z + size * 1.12)]
            b.face([(u, y, w) for u, w in corners], colour)
            b.face([(u, y + 0.003 if colour is white else 0.03, w) for u, w in reversed(corners)], back)
        b.box((-0.03, -0.012, z - 0.02), (0.03, -0.008, z + 0.14), black, skip="Y")
        b.box((-0.03, -0.012, z - 0.13), (0.03, -0.008, z - 0.07), black, skip="Y")
    elif kind == "blue":
        disc(b, (0, 0, z), 0.32, 0.03, blue, back)
        b.box((-0.04, -0.008, z - 0.2), (0.04, -0.004, z + 0.1), white, skip="Y")
        b.face([(-0.15, -0.006, z + 0.05), (0.15, -0.006, z + 0.05), (0, -0.006, z + 0.23)], white)
    else:
        board = rng.choice([blue, green, white])
        ink = black if board is white else white
        w, h = rng.uniform(0.45, 0.8), rng.uniform(0.35, 0.6)
        b.box((-w, 0, z - h / 2), (w, 0.03, z + h / 2), board, skip="Y")
        b.face([(w, 0.03, z - h / 2), (-w, 0.03, z - h / 2), (-w, 0.03, z + h / 2), (w, 0.03, z + h / 2)], back)
        for row in range(2):
            x, zz = -w * 0.8, z + h * (0.12 - 0.36 * row)
            while x < w * 0.6:
                step = rng.uniform(0.08, 0.25)
                b.box((x, -0.006, zz), (x + step, -0.002, zz + h * 0.2), ink, skip="Y")
                x += step + 0.06
    return b


def traffic_light(mats, rng):
    b = MeshBuilder()
    steel, case = mats.plain(POLE, (0.24, 0.25, 0.26), 0.5), mats.plain(SIGN, (0.05, 0.05, 0.05), 0.6)
    b.tube((0, 0.12, 0), (0, 0.12, 3.3), 0.06, 0.055, steel, 8)
    b.box((-0.17, -0.1, 2.3), (0.17, 0.1, 3.3), case)
    b.box((-0.26, 0.1, 2.2), (0.26, 0.12, 3.4), case)
    lit = rng.choice([0, 2])
    for k, colour in enumerate([(0.85, 0.1, 0.06), (0.9, 0.55, 0.05), (0.1, 0.8, 0.4)]):
        shade = colour if k == lit else tuple(c * 0.25 for c in colour)
        disc(b, (0, -0.115, 3.12 - 0.31 * k), 0.11, 0.02, mats.plain(SIGN, shade, 0.3, glow=2.5 if k == lit else 0.0), case, 12)
    return b


def bollard(mats, rng):
    b = MeshBuilder()
    body, band = mats.plain(POLE, (0.10, 0.10, 0.11), 0.5), mats.plain(POLE, (0.85, 0.85, 0.82))
    b.tube((0, 0, 0), (0, 0, 0.85), 0.085, 0.07, body, 8, caps=False)
    b.tube((0, 0, 0.85), (0, 0, 0.93), 0.09, 0.05, body, 8)
    b.tube((0, 0, 0.68), (0, 0, 0.75), 0.081, 0.08, band, 8, caps=False)
    return b


def railing(mats, rng, length=3.0):
    """Metal railing along x."""
    b = MeshBuilder()
    metal = mats.plain(FENCE, rng.choice([(0.07, 0.07, 0.08), (0.40, 0.42, 0.43), (0.06, 0.16, 0.11)]), 0.5)
    for z in (0.12, 1.02):
        b.box((-length / 2, -0.02, z - 0.025), (length / 2, 0.02, z + 0.025), metal)
    n = int(length / 0.13)
    for k in range(n + 1):
        x, post = -length / 2 + length * k / n, k % 12 == 0
        r = 0.035 if post else 0.011
        b.box((x - r, -r, 0), (x + r, r, 1.12 if post else 1.02), metal, skip="z")
    return b


def wooden_fence(mats, rng, length=3.0):
    """Boarded garden fence along x."""
    b = MeshBuilder()
    tone = rng.choice([(0.42, 0.31, 0.21), (0.36, 0.30, 0.25), (0.50, 0.38, 0.25)])
    boards = [mats.plain(FENCE, tuple(c * f for c in tone), mottle=0.35) for f in (0.85, 1.0, 1.12)]
    height = rng.uniform(1.3, 1.8)
    n = int(length / 0.16)
    for k in range(n):
        x = -length / 2 + length * k / n
        b.box((x + 0.005, -0.012, 0.04), (x + length / n - 0.005, 0.012, height + rng.uniform(-0.02, 0.02)), rng.choice(boards), skip="z")
    for x in (-length / 2, length / 2):
        b.box((x - 0.05, -0.02, 0), (x + 0.05, 0.08, height + 0.08), boards[0], skip="z")
    return b


def garden_wall(mats, rng, length=3.0):
    """Low brick wall with a coping (CamVid counts walls as building)."""
    b = MeshBuilder()
    brick = mats.brick(rng.choice([(0.52, 0.30, 0.22), (0.62, 0.50, 0.36), (0.46, 0.28, 0.22)]))
    cap = mats.plain(BUILDING, (0.62, 0.60, 0.55), mottle=0.3)
    height = rng.uniform(0.55, 1.0)
    b.box((-length / 2, -0.11, 0), (length / 2, 0.11, height), brick, skip="z")
    b.box((-length / 2, -0.15, height), (length / 2, 0.15, height + 0.07), cap)
    return b
