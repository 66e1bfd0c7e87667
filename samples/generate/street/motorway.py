"""Builds a motorway: two carriageways, guard rails, noise walls, gantries, bridges and fast traffic."""

from mathutils import Matrix

from . import furniture, vegetation, vehicles
from .classes import BUILDING, FENCE, POLE, SIGN
from .mesh import MeshBuilder, place
from .road import rectangle, strip
from .street import StreetBuilder

PIECE = 4.0


def guard_rail(mats, rng):
    """A piece of steel guard rail along x, its beam towards -y."""
    b = MeshBuilder()
    steel = mats.plain(FENCE, rng.choice([(0.55, 0.57, 0.58), (0.66, 0.67, 0.67), (0.42, 0.40, 0.37)]), 0.55, 0.5, mottle=0.2)
    profile = [(0.0, 0.48), (-0.08, 0.54), (-0.02, 0.62), (-0.02, 0.66), (-0.08, 0.74), (0.0, 0.80)]
    b.grid([[(x, y, z) for y, z in profile] for x in (PIECE / 2, -PIECE / 2)], steel, smooth=False)
    b.grid([[(x, y + 0.01, z) for y, z in profile] for x in (-PIECE / 2, PIECE / 2)], steel, smooth=False)
    for x in (-PIECE / 4, PIECE / 4):
        b.box((x - 0.05, 0.02, 0), (x + 0.05, 0.14, 0.78), steel, skip="z")
    return b


def concrete_barrier(mats, rng):
    """A piece of concrete safety barrier along x, the same on both sides."""
    b = MeshBuilder()
    concrete = mats.plain(FENCE, rng.choice([(0.60, 0.59, 0.56), (0.72, 0.71, 0.68)]), mottle=0.3, scale=1.5)
    profile = [(-0.30, 0.0), (-0.28, 0.08), (-0.12, 0.32), (-0.08, 0.86), (0.08, 0.86), (0.12, 0.32), (0.28, 0.08), (0.30, 0.0)]
    b.grid([[(x, y, z) for y, z in profile] for x in (PIECE / 2 - 0.01, -PIECE / 2 + 0.01)], concrete, smooth=False)
    return b


def noise_wall(mats, rng):
    """A piece of noise wall along x (walls count as building)."""
    b = MeshBuilder()
    panel = mats.plain(BUILDING, rng.choice([(0.42, 0.48, 0.40), (0.55, 0.50, 0.42), (0.60, 0.62, 0.62), (0.36, 0.42, 0.48)]), mottle=0.3)
    post = mats.plain(BUILDING, (0.45, 0.46, 0.47), 0.5)
    height = rng.uniform(2.5, 4.5)
    b.box((-PIECE / 2, -0.08, 0), (PIECE / 2, 0.08, height), panel, skip="z")
    b.box((-PIECE / 2 - 0.08, -0.14, 0), (-PIECE / 2 + 0.08, 0.14, height + 0.05), post, skip="z")
    return b


def board(mats, rng, width, height):
    """A direction sign that faces -y, centred on the origin."""
    b = MeshBuilder()
    ground = mats.plain(SIGN, rng.choice([(0.05, 0.20, 0.52), (0.04, 0.34, 0.20), (0.90, 0.90, 0.88)]), 0.5)
    ink = mats.plain(SIGN, (0.95, 0.95, 0.94) if rng.random() < 0.75 else (0.08, 0.08, 0.08), 0.5)
    b.box((-width / 2, 0, -height / 2), (width / 2, 0.06, height / 2), ground)
    for row in range(3):
        x, z = -width * 0.44, height * (0.22 - 0.27 * row)
        while x < width * 0.3:
            step = rng.uniform(0.15, 0.5)
            b.box((x, -0.012, z), (x + step, -0.004, z + height * 0.13), ink, skip="Y")
            x += step + rng.choice([0.08, 0.08, 0.35])
    return b


class MotorwayBuilder(StreetBuilder):
    """The motorway of a `plan.MotorwayPlan`. The own carriageway is the left one."""

    def build(self, own_speed=6.0):
        self._ground()
        self._make_plants()
        self._barriers()
        self._furniture()
        self._roadside()
        self._motor_traffic(own_speed)
        self.street.update(0.0)
        return self.street

    def _ground(self):
        plan, mats, course, b = self.plan, self.mats, self.course, MeshBuilder()
        s0, s1 = plan.start, plan.end
        lawn = mats.grass(self.rng.choice([(0.30, 0.38, 0.15), (0.42, 0.40, 0.20), (0.52, 0.46, 0.28), (0.26, 0.34, 0.14)]))
        asphalt = mats.tarmac(plan.asphalt, plan.lane_offset(0))
        median = lawn if plan.reservation > 2.5 else asphalt
        strip(b, course, s0, s1, [(-plan.inner, 0.02), (0, 0.04), (plan.inner, 0.02)], median)
        white = mats.marking((0.86, 0.86, 0.84), plan.asphalt, plan.wear)
        for side in (-1, 1):
            strip(b, course, s0, s1, sorted([(side * plan.inner, 0.02), (side * plan.outer, 0.0)]), asphalt)
            bank = self.rng.choice([-3.0, 0.2, 0.2, 4.0])
            out = [(plan.outer, 0.0), (plan.outer + 4, 0.05), (plan.outer + 14, bank), (plan.outer + 160, bank + 2)]
            strip(b, course, s0, s1, sorted((side * d, z) for d, z in out), lawn)
            first, last = plan.inner + 0.45, plan.lane_offset(plan.lanes - 1) + plan.lane_width / 2
            for d in (first, last):
                rectangle(b, course, s0, s1, *sorted((side * (d - 0.08), side * (d + 0.08))), white, 0.045)
            for lane in range(1, plan.lanes):
                d, s = side * (plan.lane_offset(lane) - plan.lane_width / 2), s0
                while s < s1:
                    rectangle(b, course, s, s + 6.0, d - 0.07, d + 0.07, white, 0.045)
                    s += 18.0
        b.object("ground")

    def _make_plants(self):
        rng, m = self.rng, self.mats
        self.trees = [vegetation.tree(m, rng, rng.uniform(6, 11), 1.0 if rng.random() < self.plan.leafy else 0.0).mesh("tree")
                      for _ in range(3)]
        self.trees.append(vegetation.conifer(m, rng, 9.0).mesh("conifer"))
        self.shrubs = [vegetation.shrub(m, rng, rng.uniform(0.9, 1.6)).mesh("shrub") for _ in range(2)]

    def _row(self, mesh, d, side, s0, s1):
        """Pieces of a barrier or wall along the road; `side` is where their back looks."""
        s = s0
        while s < s1:
            stretch = (self.course.point(s + PIECE, d) - self.course.point(s, d)).length / PIECE
            place(mesh, self.course.facing(s + PIECE / 2, d, side) @ Matrix.Diagonal((stretch, 1, 1, 1)))
            s += PIECE

    def _barriers(self):
        plan = self.plan
        rail = guard_rail(self.mats, self.rng).mesh("rail")
        if plan.barrier == "concrete":
            self._row(concrete_barrier(self.mats, self.rng).mesh("barrier"), 0.0, 1, plan.start, plan.end)
        elif plan.barrier == "rail":
            for side in (-1, 1):
                self._row(rail, side * max(plan.inner - 0.5, 0.2), -side, plan.start, plan.end)
        for k, side in enumerate((-1, 1)):
            if plan.rails[k]:
                begin = plan.start + self.rng.choice([0.0, 0.0, 40.0])
                self._row(rail, side * (plan.outer + 0.6), side, begin, plan.end)
            if plan.noise_wall[k]:
                wall = noise_wall(self.mats, self.rng).mesh("wall")
                self._row(wall, side * (plan.outer + 3.5), side, plan.start + self.rng.uniform(0, 60), plan.end)

    def _furniture(self):
        rng, plan, m = self.rng, self.plan, self.mats
        steel = m.plain(POLE, (0.50, 0.52, 0.53), 0.5, mottle=0.2)
        if plan.lamps:
            lamp, s = furniture.lamp_post(m, rng, 10.0).mesh("lamp"), plan.start + rng.uniform(0, 30)
            while s < plan.end:
                for side in (-1, 1):
                    place(lamp, self.course.facing(s, side * 0.2, -side))
                    self.street.lamps.append(self.course.frame(s, side * 2.0, 10.0))
                s += 42.0
        if plan.gantry:
            b, reach = MeshBuilder(), plan.outer + 1.2
            for x in (-reach, 0.0):
                b.tube((x, 0, 0), (x, 0, 6.6), 0.16, 0.14, steel, 8)
            b.box((-reach, -0.12, 6.1), (0.0, 0.12, 6.6), steel)
            b.object("gantry", self.course.frame(plan.gantry, 0.0))
            for lane in range(0, plan.lanes, 2):
                at = self.course.frame(plan.gantry - 0.3, -plan.lane_offset(lane) - plan.lane_width * 0.4, 6.4)
                board(m, rng, rng.uniform(3.0, 5.0), rng.uniform(1.8, 2.8)).object("board", at)
        s = rng.uniform(15, 70)
        while s < plan.end - 40:
            d = plan.outer + 2.2
            if rng.random() < 0.5:
                w, h = rng.uniform(2.0, 4.0), rng.uniform(1.4, 2.6)
                board(m, rng, w, h).object("board", self.course.frame(s, -d - w / 2, 2.2 + h / 2))
                b = MeshBuilder()
                for x in (-w * 0.3, w * 0.3):
                    b.tube((x, 0.12, 0), (x, 0.12, 2.4 + h), 0.06, 0.06, steel, 6)
                b.object("legs", self.course.frame(s, -d - w / 2))
            else:
                furniture.sign(m, rng).object("sign", self.course.frame(s, -d))
            s += rng.uniform(30, 90)
        if plan.bridge:
            b, reach = MeshBuilder(), plan.outer + 14
            concrete = m.plain(BUILDING, (0.58, 0.57, 0.54), mottle=0.3, scale=1.0)
            b.box((-reach, -4, 5.3), (reach, 4, 6.4), concrete)
            b.box((-reach, -4.1, 6.4), (reach, -3.9, 7.3), m.plain(FENCE, (0.40, 0.42, 0.43), 0.5))
            for x in (-plan.outer - 3, plan.outer + 3):
                b.box((x - 0.5, -3, 0), (x + 0.5, 3, 5.3), concrete)
            b.object("bridge", self.course.frame(plan.bridge, 0.0))

    def _roadside(self):
        """Shrubs and trees beside the road, and a wood across its end, so that no bare horizon shows."""
        rng, plan = self.rng, self.plan
        for side in (-1, 1):
            thick = rng.choice([0.1, 0.4, 0.9])
            s = plan.start
            while s < plan.end:
                if rng.random() < thick:
                    self._tree(s, side * (plan.outer + rng.uniform(8, 40)), (0.9, 1.7))
                if rng.random() < thick * 0.5:
                    at = self.course.frame(s, side * (plan.outer + rng.uniform(5, 9)), 0.05)
                    place(rng.choice(self.shrubs), at @ vegetation.turned(rng))
                s += 5.0
            for k in range(14):
                self._tree(plan.start + (plan.end - plan.start) * k / 13, side * (plan.outer + rng.uniform(60, 120)), (1.5, 2.6))
        for k in range(-12, 13):
            self._tree(plan.end + rng.uniform(0, 20), k * 9 + rng.uniform(-3, 3), (1.6, 2.8))

    def _motor_traffic(self, own_speed):
        rng, plan = self.rng, self.plan
        for side, speed in ((-1, own_speed), (1, -0.01)):
            for lane in range(plan.lanes):
                slow = lane == plan.lanes - 1
                s = plan.start + rng.uniform(0, 40)
                while s < plan.end - 20:
                    own = side < 0 and lane == self.own_lane and s < 9
                    if rng.random() < plan.density and not own and not (side < 0 and abs(s) < 6):
                        heavy = rng.random() < (0.45 if slow else 0.08)
                        mesh = (vehicles.lorry if heavy else vehicles.vehicle)(self.mats, rng).mesh("vehicle")
                        self.mover(place(mesh), s, side * plan.lane_offset(lane) + rng.uniform(-0.3, 0.3), speed)
                    s += rng.uniform(16, 45)
        if rng.random() < 0.2:
            at = self.course.frame(rng.uniform(20, 90), -plan.outer + 1.2)
            place(vehicles.vehicle(self.mats, rng).mesh("stopped"), at)

    @property
    def own_lane(self):
        return self.plan.seed % self.plan.lanes
