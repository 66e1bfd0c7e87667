"""Builds a whole street in the current Blender scene and keeps track of what moves."""

import random
from dataclasses import dataclass, field
from math import pi

from mathutils import Matrix

from . import buildings, furniture, people, road, vegetation, vehicles
from .classes import PEDESTRIAN
from .materials import Materials
from .mesh import place


@dataclass
class Actor:
    """Something that moves along the road: start, offset, speed (m/s along s), and how it is posed at a time."""

    thing: object
    s: float
    d: float
    speed: float
    turn: float = 0.0
    pose: object = None
    z: float = 0.0

    def update(self, course, t):
        self.thing.matrix_world = course.frame(self.s + self.speed * t, self.d, self.z, self.turn)
        if self.pose:
            self.pose(t).fill(self.thing.data)


@dataclass
class Street:
    plan: object
    course: object
    actors: list = field(default_factory=list)
    lamps: list = field(default_factory=list)

    def update(self, t):
        for actor in self.actors:
            actor.update(self.course, t)


class StreetBuilder:
    def __init__(self, plan, weather="day"):
        self.plan, self.rng = plan, random.Random(plan.seed * 7919 + 17)
        self.mats = Materials(self.rng, weather)
        self.course = road.Course(self.rng, plan.bend)
        self.street = Street(plan, self.course)

    def build(self, traffic=True, own_speed=6.0):
        road.surface(self.plan, self.mats, self.rng, self.course).object("ground")
        self._make_trees()
        for side in (-1, 1):
            self._frontage(side)
            self._kerbside(side)
        self._far_end()
        self._park_cars()
        self._walkers()
        if traffic:
            self._traffic(own_speed)
        self._crowd()
        self.street.update(0.0)
        return self.street

    def _make_trees(self):
        rng, m = self.rng, self.mats
        leafy = self.plan.leafy
        self.trees = [vegetation.tree(m, rng, rng.uniform(6, 10), 1.0 if rng.random() < leafy else 0.0).mesh("tree") for _ in range(3)]
        self.trees.append(vegetation.conifer(m, rng).mesh("conifer"))
        self.shrubs = [vegetation.shrub(m, rng, rng.uniform(0.7, 1.3)).mesh("shrub") for _ in range(2)]
        self.borders = {
            "hedge": vegetation.hedge(m, rng, 3.0, rng.uniform(0.9, 1.9)).mesh("hedge"),
            "wall": furniture.garden_wall(m, rng).mesh("wall"),
            "railing": furniture.railing(m, rng).mesh("railing"),
            "fence": furniture.wooden_fence(m, rng).mesh("fence"),
        }

    def _tree(self, s, d, scale=(0.85, 1.2), which=None):
        mesh = which or self.rng.choice(self.trees[:3] * 3 + self.trees[3:])
        place(mesh, self.course.frame(s, d, 0.1) @ vegetation.turned(self.rng, scale))

    def _border(self, kind, s0, s1, d, side):
        """Row of hedge, wall, railing or fence pieces of 3 m."""
        count = max(1, round((s1 - s0) / 3.0))
        stretch = (s1 - s0) / (3.0 * count)
        for k in range(count):
            at = self.course.facing(s0 + (k + 0.5) * 3.0 * stretch, side * d, side, road.KERB)
            place(self.borders[kind], at @ Matrix.Diagonal((stretch, 1, 1, 1)))

    def _frontage(self, side):
        """Buildings, gardens and borders along one side."""
        rng, m, plan = self.rng, self.mats, self.plan
        kind, edge, s = plan.frontage[(side + 1) // 2], plan.edge_of_walk(side), plan.start
        setback = {"terrace": rng.choice([0.3, 2.6]), "shops": 0.05, "suburb": rng.uniform(3.5, 6.0), "flats": rng.uniform(1.5, 5.0), "park": 8.0}[kind]
        floors = rng.choice([2, 2, 3])
        width = rng.uniform(5.2, 7.0)
        look = buildings.Look(m, rng)
        border = rng.choice(["hedge", "wall", "railing", "fence", "wall", "hedge"])
        while s < plan.end:
            roll = rng.random()
            if kind == "park" or (roll < 0.10 and kind != "shops") or roll < 0.04:
                s = self._green_gap(side, s, edge, rng.uniform(6, 16) if kind != "park" else 24.0)
                if kind != "park" or rng.random() < 0.7:
                    continue
            if kind == "terrace":
                if rng.random() < 0.2:
                    look, floors = buildings.Look(m, rng), rng.choice([2, 2, 3])
                w, gap, b = width, 0.0, buildings.house(m, rng, width, floors, look)
            elif kind == "shops":
                w, gap = rng.uniform(5.5, 9.0), 0.0
                b = buildings.shop(m, rng, w, rng.choice([1, 2, 2, 3]))
            elif kind == "flats":
                w, gap = rng.uniform(12, 20), rng.uniform(3, 8)
                b = buildings.flats(m, rng, w, rng.choice([3, 3, 4, 5]))
            else:
                w, gap = rng.uniform(7, 10), rng.uniform(2.5, 5.0)
                b = buildings.house(m, rng, w, 2)
            b.object("building", self.course.facing(s + w / 2, side * (edge + setback), side, road.KERB))
            if setback > 1.0:
                middle = s + w / 2 + rng.uniform(-1, 1)
                self._border(border, s, middle - 0.7, edge + 0.15, side)
                self._border(border, middle + 0.7, s + w, edge + 0.15, side)
                for _ in range(2 if setback > 2 else 1):
                    if rng.random() < 0.6:
                        at = self.course.frame(s + rng.uniform(0.5, w - 0.5), side * (edge + rng.uniform(0.8, setback - 0.5)), 0.1)
                        place(rng.choice(self.shrubs), at @ vegetation.turned(rng))
                if setback > 3 and rng.random() < 0.4:
                    self._tree(s + rng.uniform(0, w), side * (edge + setback * 0.5), (0.5, 0.8))
            if gap:
                self._border("fence", s + w, s + w + gap, edge + setback + 2, side)
                if rng.random() < 0.7:
                    self._tree(s + w + gap / 2, side * (edge + setback + 4))
            if rng.random() < 0.5:
                self._tree(s + rng.uniform(0, w), side * (edge + setback + rng.uniform(13, 22)), (1.0, 1.5))
            s += w + gap

    def _green_gap(self, side, s, edge, length):
        """Railing or hedge with trees and shrubs behind."""
        rng = self.rng
        self._border(rng.choice(["railing", "hedge", "fence", "railing", "wall"]), s, s + length, edge + 0.15, side)
        for _ in range(int(length / 3.5) + 1):
            self._tree(s + rng.uniform(0, length), side * (edge + rng.uniform(2, 9)), (0.8, 1.3))
        for _ in range(int(length / 2)):
            at = self.course.frame(s + rng.uniform(0, length), side * (edge + rng.uniform(0.8, 4)), 0.1)
            place(rng.choice(self.shrubs), at @ vegetation.turned(rng, (0.8, 1.6)))
        for k in range(int(length / 5) + 1):
            self._tree(s + 5 * k, side * (edge + rng.uniform(14, 26)), (1.1, 1.6))
        return s + length

    def _kerbside(self, side):
        """Lamp posts, signs, bollards, traffic lights and trees between kerb and pavement."""
        rng, plan, m = self.rng, self.plan, self.mats
        k = (side + 1) // 2
        near = plan.half_width + 0.15
        lamp = furniture.lamp_post(m, rng, rng.uniform(5.5, 8.5)).mesh("lamp")
        s = plan.start + rng.uniform(0, 25)
        while s < plan.end:
            place(lamp, self.course.facing(s, side * (near + 0.35), side, road.KERB))
            self.street.lamps.append(self.course.frame(s, side * (near - 1.1), 5.4))
            s += rng.uniform(24, 32)
        s = plan.start + rng.uniform(4, 20)
        while s < plan.end:
            turn = 0.0 if side < 0 else pi
            d = side * (near + rng.uniform(0.35, 0.6))
            furniture.sign(m, rng).object("sign", self.course.frame(s, d, road.KERB, turn + rng.uniform(-0.15, 0.15)))
            s += rng.uniform(12, 32)
        if rng.random() < 0.25:
            at = rng.uniform(15, 90)
            furniture.traffic_light(m, rng).object("light", self.course.frame(at, side * (near + 0.4), road.KERB, 0.0 if side < 0 else pi))
        if rng.random() < 0.25:
            post, s = furniture.bollard(m, rng).mesh("bollard"), rng.uniform(0, 60)
            for n in range(rng.randint(4, 12)):
                place(post, self.course.frame(s + 1.8 * n, side * (near + 0.3), road.KERB))
        if plan.verge[k] or (plan.walk[k] > 2.6 and rng.random() < 0.55):
            s, step = plan.start + rng.uniform(0, 8), rng.uniform(8, 15)
            which = rng.choice(self.trees[:3])
            while s < plan.end:
                self._tree(s, side * (near + max(0.6, plan.verge[k] / 2)), (0.75, 1.0), which)
                s += step * rng.uniform(0.8, 1.3)

    def _far_end(self):
        """Houses and trees across the end of the road, so that no bare horizon shows."""
        rng, end = self.rng, self.plan.end
        for k in range(-3, 4):
            frame = self.course.frame(end + 9 + rng.uniform(0, 4), k * 13.0)
            buildings.house(self.mats, rng, 11.0, rng.choice([2, 3])).object("far", frame)
            self._tree(end + 5, k * 13 + rng.uniform(3, 9), (0.9, 1.3))
            self._tree(end + 26, k * 13 + rng.uniform(-5, 5), (1.4, 2.0))

    def _vehicle(self, kind=None, colour=None):
        return vehicles.vehicle(self.mats, self.rng, kind, colour).mesh("vehicle")

    def _park_cars(self):
        rng, plan = self.rng, self.plan
        for side in (-1, 1):
            if not plan.parking[(side + 1) // 2]:
                continue
            s, fill = plan.start + rng.uniform(0, 4), rng.uniform(0.5, 0.9)
            while s < plan.end - 10:
                clear = all(abs(s - c - 1) > 7 for c in plan.crossings)
                if rng.random() < fill and clear:
                    turn = pi if (side > 0) == (rng.random() < 0.8) else 0.0
                    frame = self.course.frame(s, side * (plan.half_width - 1.05 + rng.uniform(-0.08, 0.08)), 0.005, turn + rng.uniform(-0.02, 0.02))
                    place(self._vehicle(), frame)
                s += rng.uniform(5.3, 6.8)

    def walker(self, s, d, speed, turn=0.0, z=None):
        """A pedestrian with a walking cycle (speed 0 stands)."""
        rng = self.rng
        outfit, phase = people.Outfit(self.mats, rng, PEDESTRIAN), rng.uniform(0, 2 * pi)
        stride = 1.0 if speed else 0.15

        def pose(t):
            return people.pedestrian(outfit, phase + abs(speed) * 4.3 * t, stride)

        thing = pose(0.0).object("walker")
        heading = turn if turn or speed >= 0 else pi
        actor = Actor(thing, s, d, speed, heading, pose if speed else None, road.KERB + 0.04 if z is None else z)
        self.street.actors.append(actor)
        return actor

    def cyclist(self, s, d, speed):
        look, phase = people.CyclistLook(self.mats, self.rng), self.rng.uniform(0, 2 * pi)

        def pose(t):
            return people.bicyclist(look, phase - abs(speed) * 1.3 * t)

        actor = Actor(pose(0.0).object("cyclist"), s, d, speed, 0.0 if speed >= 0 else pi, pose, 0.02)
        self.street.actors.append(actor)
        return actor

    def driver(self, s, d, speed, kind=None, colour=None):
        heavy = self.plan.heavy and self.rng.random() < self.plan.heavy
        mesh = vehicles.lorry(self.mats, self.rng).mesh("lorry") if heavy else self._vehicle(kind, colour)
        return self.mover(place(mesh), s, d, speed)

    def mover(self, thing, s, d, speed):
        """Something on wheels that faces where it goes."""
        actor = Actor(thing, s, d, speed, 0.0 if speed >= 0 else pi, None, 0.025)
        self.street.actors.append(actor)
        return actor

    def _walkers(self):
        rng, plan = self.rng, self.plan
        for side in (-1, 1):
            near, edge = plan.half_width + 0.15 + plan.verge[(side + 1) // 2], plan.edge_of_walk(side)
            for _ in range(rng.randint(2, 8)):
                s = rng.uniform(4, 75)
                d = side * rng.uniform(near + 0.45, edge - 0.35)
                speed = rng.choice([1.3, -1.3, 1.1, -1.2, 0.0])
                self.walker(s, d, speed, rng.uniform(0, 2 * pi) if speed == 0 else 0.0)
                if rng.random() < 0.3:
                    self.walker(s + 0.15, d - side * 0.65 if abs(d) > near + 1.2 else d, speed or 1.2)
        for at in plan.crossings:
            if rng.random() < 0.6:
                self.walker(at + rng.uniform(0.5, 2), rng.uniform(-plan.half_width + 1, plan.half_width - 1), 0.0, rng.choice([-1, 1]) * pi / 2, 0.03)

    def _crowd(self):
        """Further people: some right before the camera, on the pavement or crossing, some far away."""
        rng, plan = self.rng, self.plan
        for _ in range(plan.crowd):
            side = rng.choice([-1, 1])
            near, edge = plan.half_width + 0.15 + plan.verge[(side + 1) // 2], plan.edge_of_walk(side)
            kind = rng.random()
            if kind < 0.3:
                self.walker(rng.uniform(3, 26), rng.uniform(-1.0, 1.0) * plan.half_width, 0.0, rng.choice([-1, 1]) * pi / 2, 0.03)
            elif kind < 0.6:
                self.walker(rng.uniform(3, 12), side * rng.uniform(near + 0.4, edge), rng.choice([1.2, -1.2, 0.0]))
            elif kind < 0.9:
                self.walker(rng.uniform(50, 140), side * rng.uniform(near, edge), rng.choice([1.2, -1.2]))
            else:
                self.cyclist(rng.uniform(4, 30), rng.uniform(-0.9, 0.9) * plan.half_width, rng.choice([3.0, -3.0]))

    def _traffic(self, own_speed):
        """Cars ahead in the own lane (same speed as the camera), oncoming cars, bicyclists."""
        rng, lane, plan = self.rng, self.plan.lane, self.plan
        s = rng.uniform(9, 30)
        for _ in range(rng.choice([0, 1, 1, 2])):
            self.driver(s, -lane + rng.uniform(-0.2, 0.2), own_speed)
            s += rng.uniform(8, 25)
        right = (plan.half_width - (2.1 if plan.parking[1] else 0.25)) / 2
        s = rng.uniform(8, 50)
        for _ in range(rng.choice([0, 1, 1, 2, 2])):
            self.driver(s, right + rng.uniform(-0.1, 0.3), -0.01)
            s += rng.uniform(9, 30)
        if rng.random() < 0.6:
            self.cyclist(rng.uniform(6, 22), -2 * lane + 0.6, own_speed)
        if rng.random() < 0.35:
            self.cyclist(rng.uniform(10, 40), 2 * right - 0.6, -0.01)
