"""The two things of the sample that no CamVid class covers: a cow and an armchair. Never used in training streets."""

from math import pi

from mathutils import Vector

from .classes import UNKNOWN
from .mesh import MeshBuilder, ring

X, Y, Z = Vector((1, 0, 0)), Vector((0, 1, 0)), Vector((0, 0, 1))


def cow(mats):
    """Standing cow, 1.45 m at the withers. Local axes: y from tail to head, z up."""
    b = MeshBuilder()
    coat = mats.hide(UNKNOWN, (0.30, 0.14, 0.07), (0.88, 0.84, 0.76), 1.15)
    brown = mats.plain(UNKNOWN, (0.32, 0.15, 0.08), mottle=0.2)
    pink, dark = mats.plain(UNKNOWN, (0.78, 0.52, 0.46), 0.6), mats.plain(UNKNOWN, (0.06, 0.05, 0.045), 0.5)
    horn, hoof = mats.plain(UNKNOWN, (0.80, 0.74, 0.60), 0.5), mats.plain(UNKNOWN, (0.16, 0.13, 0.11))
    # y, centre z, half width, half height: rump, loin, belly, ribs, shoulder, breast
    body = [(-0.98, 1.10, 0.10, 0.12), (-0.93, 1.08, 0.22, 0.26), (-0.75, 1.06, 0.29, 0.34), (-0.40, 1.03, 0.31, 0.36),
            (0.0, 1.00, 0.36, 0.40), (0.35, 1.01, 0.34, 0.39), (0.62, 1.06, 0.28, 0.37), (0.82, 1.08, 0.20, 0.29), (0.92, 1.12, 0.12, 0.18)]
    b.loft([ring((0, y, z), X, Z, w, h, 16, 0.85) for y, z, w, h in body], coat)
    for y, z in ((-0.80, 1.38), (0.55, 1.40)):
        b.blob((0, y, z), (0.12, 0.16, 0.07), coat, 5, 8)
    neck = [((0, 0.72, 1.14), 0.19, 0.28), ((0, 0.95, 1.28), 0.15, 0.22), ((0, 1.16, 1.42), 0.12, 0.17)]
    tilt = (Y + Z * 0.6).normalized()
    b.loft([ring(c, X, X.cross(tilt), w, h, 12) for c, w, h in neck], brown)
    nose = Vector((0, 0.78, -0.62)).normalized()
    up = X.cross(nose)
    poll = Vector((0, 1.15, 1.56))
    face = [(-0.04, 0.09, 0.09), (0.04, 0.125, 0.13), (0.16, 0.12, 0.125), (0.32, 0.085, 0.095), (0.42, 0.085, 0.085)]
    b.loft([ring(poll + nose * t, X, up, w, h, 12) for t, w, h in face], brown)
    b.loft([ring(poll + nose * t, X, up, w, h, 12, 0.8) for t, w, h in [(0.41, 0.088, 0.087), (0.48, 0.095, 0.08), (0.53, 0.07, 0.05)]], pink)
    b.blob(poll + nose * 0.14 + up * 0.10, (0.05, 0.09, 0.06), mats.plain(UNKNOWN, (0.88, 0.84, 0.76)), 5, 8)
    for side in (-1, 1):
        eye = poll + nose * 0.14 + X * side * 0.112 + up * 0.045
        b.blob(eye, (0.018, 0.024, 0.024), dark, 5, 8)
        b.blob(poll + nose * 0.50 + X * side * 0.045 + up * 0.045, (0.016, 0.02, 0.014), dark, 4, 6)
        ear = poll + X * side * 0.12 - nose * 0.01
        b.loft([ring(ear + X * side * t - Z * t * 0.25, Y, Z, w, h, 8) for t, w, h in [(0, .02, .03), (.08, .02, .06), (.17, .012, .045), (.22, .004, .01)]], brown)
        base = poll + X * side * 0.07 + up * 0.08
        b.limb([base, base + Vector((side * 0.13, 0.02, 0.05)), base + Vector((side * 0.19, 0.07, 0.14)), base + Vector((side * 0.17, 0.10, 0.22))],
               [0.032, 0.027, 0.018, 0.006], horn, 7)
        for y, front in ((-0.72, False), (0.60, True)):
            step = 0.07 * side * (1 if front else -1)
            hip = Vector((side * 0.19, y, 0.95))
            if front:
                joints = [hip, Vector((side * 0.18, y + step * 0.5, 0.50)), Vector((side * 0.17, y + step, 0.14)), Vector((side * 0.17, y + step, 0.07))]
                radii = [0.145, 0.078, 0.052, 0.06]
            else:
                joints = [hip, Vector((side * 0.18, y + 0.10 + step, 0.68)), Vector((side * 0.17, y - 0.10 + step, 0.46)),
                          Vector((side * 0.17, y - 0.04 + step, 0.10))]
                radii = [0.20, 0.13, 0.068, 0.056]
            b.limb(joints, radii, coat, 9)
            foot = joints[-1]
            b.tube((foot.x, foot.y + 0.015, 0.0), (foot.x, foot.y, 0.11), 0.078, 0.056, hoof, 8)
    b.blob((0, -0.42, 0.64), (0.17, 0.20, 0.13), pink, 6, 10)
    for x in (-0.07, 0.07):
        for y in (-0.50, -0.36):
            b.tube((x, y, 0.56), (x, y, 0.47), 0.022, 0.014, pink, 6)
    b.limb([(0, -0.98, 1.28), (0.02, -1.08, 1.05), (0.03, -1.07, 0.72), (0.03, -1.05, 0.55)], [0.035, 0.025, 0.02, 0.02], coat, 6)
    b.blob((0.03, -1.05, 0.46), (0.045, 0.045, 0.14), brown, 6, 8)
    return b


def armchair(mats):
    """Wing chair, 1.1 m wide and 1.55 m high. Local axes: the seat opens towards -y, z up."""
    b = MeshBuilder()
    cloth = mats.plain(UNKNOWN, (0.38, 0.13, 0.50), 0.9, mottle=0.15)
    seam, wood = mats.plain(UNKNOWN, (0.24, 0.08, 0.33)), mats.plain(UNKNOWN, (0.33, 0.18, 0.08), 0.4)
    for x in (-0.45, 0.45):
        b.limb([(x, -0.48, 0.27), (x * 1.08, -0.55, 0.14), (x * 1.02, -0.53, 0.03)], [0.06, 0.048, 0.035], wood, 8)
        b.limb([(x, 0.43, 0.27), (x, 0.53, 0.03)], [0.054, 0.034], wood, 8)
    b.blob((0, 0, 0.36), (0.58, 0.58, 0.16), cloth, 8, 20, 0.3)
    b.box((-0.54, -0.585, 0.41), (0.54, -0.57, 0.425), seam)
    b.blob((0, -0.10, 0.565), (0.43, 0.48, 0.13), cloth, 8, 16, 0.45)
    # The back leans and ends in a rounded crest; z, y, half width, half depth.
    back = [(0.36, 0.48, 0.53, 0.145), (0.84, 0.505, 0.53, 0.145), (1.20, 0.565, 0.515, 0.13), (1.42, 0.61, 0.43, 0.12), (1.53, 0.635, 0.24, 0.085)]
    b.loft([ring((0, y, z), X, Y, w, d, 18, 0.45) for z, y, w, d in back], cloth)
    for x in (-0.2, 0.0, 0.2):
        for z, y in ((0.95, 0.39), (1.2, 0.425)):
            b.blob((x + (0.1 if z > 1 else 0.0), y, z), (0.022, 0.018, 0.022), seam, 5, 8)
    for side in (-1, 1):
        b.blob((side * 0.54, 0, 0.53), (0.12, 0.55, 0.265), cloth, 8, 16, 0.35)
        b.loft([ring((side * 0.575, y, 0.80), X, Z, r, r, 12) for y, r in ((-0.60, 0.11), (-0.575, 0.14), (0.48, 0.13))], cloth)
        b.tube((side * 0.575, -0.60, 0.80), (side * 0.575, -0.612, 0.80), 0.07, 0.045, seam, 10)
        wing = [(0.79, 0.24, 0.29), (1.03, 0.325, 0.265), (1.26, 0.41, 0.205), (1.42, 0.505, 0.095)]
        b.loft([ring((side * 0.505, y, z), X, Y, 0.066, d, 12, 0.6) for z, y, d in wing], cloth)
    return b
