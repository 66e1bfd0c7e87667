"""Pedestrians and a bicyclist, posed by a phase. Local axes: y forwards, x to the right, z up; feet at z = 0."""

from math import cos, pi, sin

from mathutils import Vector

from .classes import BICYCLIST, PEDESTRIAN
from .mesh import MeshBuilder, ring

SKINS = [(0.80, 0.62, 0.52), (0.86, 0.70, 0.60), (0.55, 0.38, 0.28), (0.36, 0.24, 0.18), (0.74, 0.55, 0.42)]
TOPS = [(0.10, 0.11, 0.14), (0.14, 0.18, 0.30), (0.50, 0.10, 0.10), (0.75, 0.74, 0.70), (0.24, 0.30, 0.22), (0.40, 0.32, 0.24),
        (0.18, 0.36, 0.48), (0.35, 0.14, 0.32), (0.78, 0.60, 0.18), (0.32, 0.32, 0.34)]
LEGS = [(0.12, 0.15, 0.24), (0.08, 0.08, 0.09), (0.22, 0.26, 0.36), (0.36, 0.31, 0.25), (0.25, 0.25, 0.26)]
HAIR = [(0.10, 0.07, 0.05), (0.24, 0.15, 0.09), (0.50, 0.38, 0.20), (0.40, 0.39, 0.38), (0.05, 0.05, 0.05)]
X, Y, Z = Vector((1, 0, 0)), Vector((0, 1, 0)), Vector((0, 0, 1))


class Outfit:
    """Clothes, skin and build of one person."""

    def __init__(self, mats, rng, class_id):
        self.top = mats.plain(class_id, rng.choice(TOPS), mottle=0.2, scale=9)
        self.legs = mats.plain(class_id, rng.choice(LEGS), mottle=0.2, scale=9)
        self.skin = mats.plain(class_id, rng.choice(SKINS), 0.6)
        self.hair = mats.plain(class_id, rng.choice(HAIR), 0.6)
        self.shoe = mats.plain(class_id, rng.choice([(0.07, 0.06, 0.06), (0.25, 0.16, 0.1), (0.8, 0.8, 0.8)]))
        self.bag = mats.plain(class_id, rng.choice(TOPS)) if rng.random() < 0.4 else None
        self.coat = rng.random() < 0.4
        self.long_hair = rng.random() < 0.45
        self.height = rng.uniform(1.56, 1.88)
        self.girth = rng.uniform(0.9, 1.2)


def trunk(b, hips, chest, o, scale):
    """Torso from the hips to the shoulders as a skin over rings, with the neck and head on top."""
    axis = (chest - hips).normalized()
    front = X.cross(axis) * -1
    g, s = o.girth * scale, scale
    shape = [(-0.10 if o.coat else -0.03, 0.175, 0.12), (0.12, 0.155, 0.11), (0.45, 0.16, 0.115), (0.75, 0.19, 0.12), (0.95, 0.20, 0.10), (1.06, 0.09, 0.07)]
    length = (chest - hips).length
    if o.coat:
        shape.insert(0, (-0.55, 0.185, 0.13))
    b.loft([ring(hips + axis * length * t, X, front, w * g, d * g, 12) for t, w, d in shape], o.top)
    neck = chest + axis * 0.03 * s
    head = neck + (axis * 0.5 + Z * 0.5).normalized() * 0.19 * s
    b.tube(neck - axis * 0.04 * s, head, 0.055 * s, 0.05 * s, o.skin, 8)
    b.blob(head + Y * 0.012 * s, (0.075 * s, 0.092 * s, 0.115 * s), o.skin, 7, 10)
    b.blob(head + Y * 0.10 * s - Z * 0.01 * s, (0.016 * s, 0.022 * s, 0.025 * s), o.skin, 4, 6)
    return head


def hair(b, head, o, s):
    b.blob(head - Y * 0.018 * s + Z * 0.028 * s, (0.084 * s, 0.092 * s, 0.10 * s), o.hair, 6, 10)
    if o.long_hair:
        b.blob(head - Y * 0.06 * s - Z * 0.08 * s, (0.075 * s, 0.05 * s, 0.13 * s), o.hair, 5, 8)


def pedestrian(mats_outfit, phase, stride=1.0):
    """A walking person; `phase` in radians, `stride` 0 stands still."""
    o, b = mats_outfit, MeshBuilder()
    h = o.height
    s = h / 1.75
    swing = 0.42 * stride * sin(phase)
    hips = Z * (0.525 * h - 0.02 * stride * abs(sin(phase)))
    chest = hips + Z * 0.29 * h + Y * 0.02
    for side in (-1, 1):
        a = swing * side
        lift = max(0.0, cos(phase) * side) * 0.75 * stride
        hip = hips + X * side * 0.085 * s * o.girth
        knee = hip + Vector((0, sin(a + lift * 0.35), -cos(a + lift * 0.35))) * 0.255 * h
        shin = a - lift * 0.6 - (0.10 if a < 0 else 0.0) * stride
        ankle = knee + Vector((0, sin(shin), -cos(shin))) * 0.235 * h
        b.limb([hip, knee, ankle], [0.085 * s * o.girth, 0.058 * s, 0.042 * s], o.legs)
        b.blob(ankle + Y * 0.07 * s - Z * 0.035 * s, (0.045 * s, 0.13 * s, 0.04 * s), o.shoe, 5, 8, 0.8)
        shoulder = chest + X * side * 0.195 * s * o.girth - Z * 0.03 * s
        elbow = shoulder + Vector((side * 0.12, -sin(a) * 0.8 - 0.1, -cos(a))).normalized() * 0.165 * h
        bend = -a * 0.8 + 0.35
        hand = elbow + Vector((-side * 0.03, sin(bend), -cos(bend))) * 0.15 * h
        b.limb([shoulder, elbow, hand], [0.06 * s, 0.047 * s, 0.037 * s], o.top)
        b.blob(hand - Z * 0.05 * s, (0.03 * s, 0.04 * s, 0.06 * s), o.skin, 5, 6)
        if o.bag and side > 0:
            b.blob(hand - Z * 0.26 * s, (0.06, 0.15, 0.16), o.bag, 5, 8, 0.5)
    head = trunk(b, hips, chest, o, s)
    hair(b, head, o, s)
    return b


def wheel(b, y, r, tyre, spoke):
    rows = []
    for k in range(24):
        a = 2 * pi * k / 24
        out = Vector((0, cos(a), sin(a)))
        rows.append(ring(Vector((0, y, r)) + out * (r - 0.02), X, out, 0.02, 0.022, 6))
    rows.append(rows[0])
    b.grid(rows, tyre, wrap=True)
    for k in range(9):
        a = pi * k / 9
        d = Vector((0, cos(a), sin(a))) * (r - 0.03)
        b.tube(Vector((0, y, r)) - d, Vector((0, y, r)) + d, 0.003, 0.003, spoke, 3, caps=False)


def knee_of(hip, foot, thigh, shin):
    """Knee of a two-bone leg that bends forwards."""
    d = foot - hip
    length = min(d.length, thigh + shin - 1e-3)
    along = (thigh * thigh - shin * shin + length * length) / (2 * length)
    out = max(0.0, thigh * thigh - along * along) ** 0.5
    u = d.normalized()
    return hip + u * along + X.cross(u) * -out if X.cross(u).y < 0 else hip + u * along + X.cross(u) * out


class CyclistLook(Outfit):
    def __init__(self, mats, rng):
        super().__init__(mats, rng, BICYCLIST)
        self.coat = False
        self.frame = mats.plain(BICYCLIST, rng.choice([(0.55, 0.07, 0.07), (0.08, 0.16, 0.4), (0.07, 0.07, 0.07), (0.1, 0.3, 0.2)]), 0.35, 0.5)
        self.tyre = mats.plain(BICYCLIST, (0.06, 0.06, 0.06))
        self.metal = mats.plain(BICYCLIST, (0.6, 0.6, 0.62), 0.35, 0.6)
        self.helmet = mats.plain(BICYCLIST, rng.choice([(0.85, 0.85, 0.85), (0.1, 0.1, 0.1), (0.75, 0.15, 0.1)]), 0.4) if rng.random() < 0.6 else None


def bicyclist(look, phase):
    """A person on a bicycle, pedals turned by `phase`."""
    o, b, s = look, MeshBuilder(), look.height / 1.75
    rear, front, crank = Vector((0, -0.50, 0.34)), Vector((0, 0.54, 0.34)), Vector((0, -0.06, 0.29))
    seat, stem = Vector((0, -0.22, 0.92)), Vector((0, 0.40, 0.90))
    for y in (rear.y, front.y):
        wheel(b, y, 0.34, o.tyre, o.metal)
    for p, q in ((rear, crank), (crank, seat), (rear, seat - Z * 0.1), (seat - Z * 0.08, stem - Z * 0.05), (crank, stem - Z * 0.12), (front, stem)):
        b.tube(p, q, 0.019, 0.019, o.frame, 6, caps=False)
    b.blob(seat + Z * 0.03, (0.075, 0.13, 0.035), o.tyre, 5, 8)
    b.tube(stem, stem + Z * 0.10, 0.016, 0.016, o.metal, 6)
    bar = stem + Z * 0.10
    b.tube(bar - X * 0.29 - Y * 0.06, bar - X * 0.05, 0.014, 0.014, o.metal, 6)
    b.tube(bar + X * 0.05, bar + X * 0.29 - Y * 0.06, 0.014, 0.014, o.metal, 6)
    hips, chest = seat + Z * 0.10 - Y * 0.02, seat + Vector((0, 0.33, 0.56)) * s
    for side in (-1, 1):
        a = phase + (pi if side > 0 else 0)
        pedal = crank + Vector((side * 0.12, 0.17 * cos(a), 0.17 * sin(a)))
        b.tube(crank + X * side * 0.06, pedal - X * side * 0.03, 0.012, 0.012, o.metal, 5)
        foot = pedal + Z * 0.07 - Y * 0.05
        hip = hips + X * side * 0.09
        knee = knee_of(hip, foot, 0.44 * s, 0.44 * s)
        b.limb([hip, knee, foot], [0.085 * s, 0.058 * s, 0.042 * s], o.legs)
        b.blob(pedal + Y * 0.02 + Z * 0.03, (0.045, 0.13, 0.04), o.shoe, 5, 8, 0.8)
        shoulder = chest + X * side * 0.19 * s - Z * 0.03
        hand = bar + X * side * 0.27 - Y * 0.05 + Z * 0.03
        elbow = (shoulder + hand) / 2 + Vector((side * 0.07, -0.02, -0.09))
        b.limb([shoulder, elbow, hand], [0.058 * s, 0.046 * s, 0.037 * s], o.top)
        b.blob(hand, (0.035, 0.05, 0.035), o.skin, 5, 6)
    head = trunk(b, hips, chest, o, s)
    if o.helmet:
        b.blob(head + Z * 0.055 * s, (0.10 * s, 0.13 * s, 0.085 * s), o.helmet, 6, 10)
    else:
        hair(b, head, o, s)
    return b
