"""A small polygon builder: primitives in local metres, UV coordinates in metres, one material per face."""

from contextlib import contextmanager
from math import cos, pi, sin

import bpy
from mathutils import Matrix, Vector


def metre_uv(points):
    """Planar UV of a face in metres: u runs horizontally in the face, v upwards (or along y on flat faces)."""
    a, b, c = points[0], points[1], points[2]
    n = (b - a).cross(c - b)
    if n.length < 1e-12:
        return [(p.x, p.z) for p in points]
    n.normalize()
    if abs(n.z) > 0.95:
        return [(p.x, p.y) for p in points]
    flat = (n.x * n.x + n.y * n.y) ** 0.5
    tx, ty = -n.y / flat, n.x / flat
    return [(tx * p.x + ty * p.y, p.z / flat) for p in points]


def superellipse(angle, exponent):
    """Point of the unit superellipse: exponent 1 is a circle, towards 0 it is a square with round corners."""
    c, s = cos(angle), sin(angle)
    return (abs(c) ** exponent * (1 if c >= 0 else -1), abs(s) ** exponent * (1 if s >= 0 else -1))


class MeshBuilder:
    """Collects faces and turns them into one Blender mesh."""

    def __init__(self):
        self.verts, self.faces, self.uvs = [], [], []
        self.slots, self.slot_of, self.face_slots, self.smooth = [], {}, [], []
        self.matrix = Matrix.Identity(4)

    @contextmanager
    def at(self, matrix):
        """Everything added inside is placed by `matrix` (on top of the placements around it)."""
        outer = self.matrix
        self.matrix = outer @ matrix
        yield self
        self.matrix = outer

    def _slot(self, material):
        if material.name not in self.slot_of:
            self.slot_of[material.name] = len(self.slots)
            self.slots.append(material)
        return self.slot_of[material.name]

    def _emit(self, indices, uv, material, smooth):
        self.faces.append(indices)
        self.uvs.extend(uv)
        self.face_slots.append(self._slot(material))
        self.smooth.append(smooth)

    def face(self, points, material, uv=None):
        """One flat polygon; points counter-clockwise seen from outside."""
        points = [Vector(p) for p in points]
        base = len(self.verts)
        self.verts.extend(self.matrix @ p for p in points)
        self._emit(tuple(range(base, base + len(points))), uv or metre_uv(points), material, False)

    def grid(self, rows, material, wrap=False, smooth=True, uv=None):
        """Quads between neighbouring rows of points, with shared vertices.

        `material` is one material or a function of (row, column). `uv` is a function of (row, column, point).
        """
        rows = [[Vector(p) for p in row] for row in rows]
        base, width = len(self.verts), len(rows[0])
        for row in rows:
            self.verts.extend(self.matrix @ p for p in row)
        for i in range(len(rows) - 1):
            for j in range(width if wrap else width - 1):
                k = (j + 1) % width
                corners = ((i, j), (i, k), (i + 1, k), (i + 1, j))
                points = [rows[r][c] for r, c in corners]
                coords = [uv(r, c, rows[r][c]) for r, c in corners] if uv else metre_uv(points)
                chosen = material(i, j) if callable(material) else material
                self._emit(tuple(base + r * width + c for r, c in corners), coords, chosen, smooth)

    def box(self, low, high, material, skip=""):
        """Axis-aligned box; `skip` leaves faces out: any of the letters x X y Y z Z (low and high sides)."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        sides = {
            "x": [(x0, y1, z0), (x0, y0, z0), (x0, y0, z1), (x0, y1, z1)],
            "X": [(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)],
            "y": [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)],
            "Y": [(x1, y1, z0), (x0, y1, z0), (x0, y1, z1), (x1, y1, z1)],
            "z": [(x0, y1, z0), (x1, y1, z0), (x1, y0, z0), (x0, y0, z0)],
            "Z": [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)],
        }
        for name, points in sides.items():
            if name not in skip:
                self.face(points, material)

    def tube(self, start, end, r0, r1, material, sides=8, caps=True):
        """Tapered cylinder from `start` to `end`."""
        start, end = Vector(start), Vector(end)
        frame = (end - start).to_track_quat("Z", "Y").to_matrix()
        ring = [frame @ Vector((cos(2 * pi * k / sides), sin(2 * pi * k / sides), 0)) for k in range(sides)]
        low, high = [start + r0 * p for p in ring], [end + r1 * p for p in ring]
        self.grid([low, high], material, wrap=True)
        if caps:
            self.face(list(reversed(low)), material)
            self.face(high, material)

    def limb(self, points, radii, material, sides=8):
        """Chain of tubes through `points` with round joints."""
        for k in range(len(points) - 1):
            self.tube(points[k], points[k + 1], radii[k], radii[k + 1], material, sides, caps=False)
        for p, r in zip(points, radii):
            self.blob(p, (r, r, r), material, rings=4, segments=sides)

    def blob(self, centre, radii, material, rings=6, segments=10, exponent=1.0, jitter=None):
        """Ellipsoid, or with `exponent` < 1 a cushion-like box with round edges."""
        centre, rows = Vector(centre), []
        for i in range(rings + 1):
            flat, z = superellipse(-pi / 2 + pi * i / rings, exponent)
            row = []
            for j in range(segments):
                x, y = superellipse(2 * pi * j / segments, exponent)
                p = Vector((x * flat * radii[0], y * flat * radii[1], z * radii[2]))
                row.append(centre + (p * jitter() if jitter else p))
            rows.append(row)
        self.grid(rows, material, wrap=True)

    def loft(self, rings, material, caps=True):
        """Skin over closed rings of points, all of the same length."""
        self.grid(rings, material, wrap=True)
        if caps:
            self.face(list(reversed(rings[0])), material)
            self.face(rings[-1], material)

    def mesh(self, name, smooth_angle=0.7):
        """The collected faces as a Blender mesh."""
        mesh = bpy.data.meshes.new(name)
        self.fill(mesh, smooth_angle)
        return mesh

    def fill(self, mesh, smooth_angle=0.7):
        """Replaces the content of an existing mesh (for figures that move)."""
        mesh.clear_geometry()
        mesh.materials.clear()
        for material in self.slots:
            mesh.materials.append(material)
        mesh.from_pydata(self.verts, [], self.faces)
        mesh.polygons.foreach_set("material_index", self.face_slots)
        mesh.polygons.foreach_set("use_smooth", self.smooth)
        layer = mesh.uv_layers.new(name="metres")
        layer.data.foreach_set("uv", [c for uv in self.uvs for c in uv])
        mesh.use_auto_smooth = True
        mesh.auto_smooth_angle = smooth_angle
        mesh.update()

    def object(self, name, matrix=None):
        """The collected faces as an object linked into the scene."""
        return place(self.mesh(name), matrix, name)


def place(mesh, matrix=None, name=None):
    """A new object (an instance, if the mesh is already in use) at `matrix`."""
    thing = bpy.data.objects.new(name or mesh.name, mesh)
    if matrix is not None:
        thing.matrix_world = matrix
    bpy.context.scene.collection.objects.link(thing)
    return thing


def ring(centre, across, up, half_width, half_height, count=10, exponent=1.0):
    """Closed ring of points in the plane of the unit vectors `across` and `up`."""
    centre, across, up = Vector(centre), Vector(across), Vector(up)
    points = []
    for k in range(count):
        x, y = superellipse(2 * pi * k / count, exponent)
        points.append(centre + across * (x * half_width) + up * (y * half_height))
    return points
