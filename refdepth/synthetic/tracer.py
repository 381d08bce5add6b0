"""A small ray tracer with exact depth: boxes, spheres and upright cylinders, textures computed
where a ray hits.

Rays of a pinhole carry z = 1 in camera space, so the ray parameter of a hit *is* its depth; those
of the other lenses have length 1, so that it is the distance.
"""

# mypy: allow-untyped-defs
# (numba infers the kernels' types)

from __future__ import annotations

import math

import numpy as np
from numba import prange

from refdepth.compiled import kernel, parallel_kernel

BOX, SPHERE, CYLINDER = 0, 1, 2
PLAIN, NOISE, TILES, REPEATED = 0, 1, 2, 3
PINHOLE, FISHEYE, EQUIRECTANGULAR = 0, 1, 2
"""Lenses. K of a fisheye (equidistant) and of an equirectangular picture is in pixels a radian."""

# Columns of the material table.
PATTERN, SEED, FEATURE, CONTRAST, TILE, REFLECTANCE = 0, 1, 2, 3, 4, 5
COLOR_A, COLOR_B = 6, 9
MATERIAL_COLUMNS = 12

_OCTAVES = 7
_NEAR = 1e-6


@kernel
def _hash(x, y, z, seed):
    """A repeatable number in [-1, 1] for a lattice point."""
    mask = 0xFFFFFFFF
    h = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791) ^ (seed * 40503551)
    h &= mask
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & mask
    h = ((h ^ (h >> 15)) * 0x046CA68B) & mask
    return (h ^ (h >> 16)) / 2147483647.5 - 1.0


@kernel
def _value_noise(x, y, z, seed):
    """Smoothly interpolated lattice noise in [-1, 1]."""
    ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
    fx, fy, fz = x - ix, y - iy, z - iz
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    value = 0.0
    for k in range(2):
        wz = fz if k else 1 - fz
        for j in range(2):
            wy = (fy if j else 1 - fy) * wz
            a = _hash(ix, iy + j, iz + k, seed)
            b = _hash(ix + 1, iy + j, iz + k, seed)
            value += wy * (a + fx * (b - a))
    return value


@kernel
def _layered_noise(x, y, z, feature, footprint, seed):
    """Noise of several scales, from `feature` downwards; scales finer than the pixel's
    `footprint` fade out, which is what keeps the pictures free of aliasing."""
    value, amplitude = 0.0, 1.0
    for octave in range(_OCTAVES):
        visible = min(max(feature / (2.0 * footprint) - 0.5, 0.0), 1.0)
        if visible == 0.0:
            break
        value += visible * amplitude * _value_noise(x / feature, y / feature, z / feature, seed)
        feature *= 0.5
        amplitude *= 0.8
        seed += 101 + octave
    return value


@kernel
def _albedo(material, x, y, z, footprint, color):
    """Colour of a material at a point of its body, written into `color` (3,)."""
    pattern, seed = int(material[PATTERN]), int(material[SEED])
    feature, contrast, tile = material[FEATURE], material[CONTRAST], material[TILE]
    tint = 0.0
    if pattern == PLAIN:
        mix = 0.5 + 0.5 * _value_noise(x / feature, y / feature, z / feature, seed)
    else:
        # The offset keeps lattice planes off the faces of bodies, where they would flicker.
        x, y, z = x + 0.3719 * feature, y + 0.2371 * feature, z + 0.4127 * feature
        if pattern == TILES:
            tx, ty, tz = x / tile, y / tile, z / tile
            tint = 0.22 * _hash(math.floor(tx), math.floor(ty), math.floor(tz), seed + 7)
        elif pattern == REPEATED:
            x, y, z = x % tile, y % tile, z % tile
        mix = 0.5 + contrast * _layered_noise(x, y, z, feature, footprint, seed)
    mix = min(max(mix, 0.0), 1.0)
    for c in range(3):
        a = material[COLOR_A + c]
        color[c] = a + mix * (material[COLOR_B + c] - a) + tint


@kernel
def _hit_box(o, d, half, limit):
    """(depth, face) of the nearest face in front of a local ray; from inside, the far face."""
    enter, leave, face_in, face_out = -math.inf, math.inf, -1, -1
    for axis in range(3):
        if d[axis] == 0.0:
            if abs(o[axis]) > half[axis]:
                return math.inf, -1
            continue
        low, high = (-half[axis] - o[axis]) / d[axis], (half[axis] - o[axis]) / d[axis]
        first, last = (2 * axis, 2 * axis + 1) if low < high else (2 * axis + 1, 2 * axis)
        if min(low, high) > enter:
            enter, face_in = min(low, high), first
        if max(low, high) < leave:
            leave, face_out = max(low, high), last
    if enter > leave or leave < _NEAR or enter > limit:
        return math.inf, -1
    return (enter, face_in) if enter > _NEAR else (leave, face_out)


@kernel
def _hit_round(o, d, half, capped):
    """(depth, face) of a sphere, or of a cylinder along local y (faces 2 and 3 are its caps)."""
    a, b, c = d[0] * d[0] + d[2] * d[2], o[0] * d[0] + o[2] * d[2], o[0] * o[0] + o[2] * o[2]
    if not capped:
        a, b, c = a + d[1] * d[1], b + o[1] * d[1], c + o[1] * o[1]
    root = b * b - a * (c - half[0] * half[0])
    best, face = math.inf, -1
    if root > 0.0 and a > 0.0:
        t = (-b - math.sqrt(root)) / a
        if t > _NEAR and (not capped or abs(o[1] + t * d[1]) <= half[1]):
            best, face = t, 0
    if capped and d[1] != 0.0:
        # Only the cap that faces the ray can be seen from outside.
        t = ((-half[1] if d[1] > 0 else half[1]) - o[1]) / d[1]
        x, z = o[0] + t * d[0], o[2] + t * d[2]
        if _NEAR < t < best and x * x + z * z <= half[0] * half[0]:
            best, face = t, 2 if d[1] > 0 else 3
    return best, face


@kernel
def _nearest(origin, direction, shapes, centers, rotations, halves, o, d):
    """(depth, body, face) of the first hit; leaves the winner's local ray in `o`, `d`."""
    best, body, face = math.inf, -1, -1
    length2 = direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2
    for i in range(shapes.shape[0]):
        cx = centers[i, 0] - origin[0]
        cy = centers[i, 1] - origin[1]
        cz = centers[i, 2] - origin[2]
        along = cx * direction[0] + cy * direction[1] + cz * direction[2]
        away2 = cx * cx + cy * cy + cz * cz - along * along / length2
        if away2 > halves[i, 0] ** 2 + halves[i, 1] ** 2 + halves[i, 2] ** 2:
            continue
        for k in range(3):
            o[k] = -(rotations[i, 0, k] * cx + rotations[i, 1, k] * cy + rotations[i, 2, k] * cz)
            d[k] = (
                rotations[i, 0, k] * direction[0]
                + rotations[i, 1, k] * direction[1]
                + rotations[i, 2, k] * direction[2]
            )
        if shapes[i] == BOX:
            t, side = _hit_box(o, d, halves[i], best)
        else:
            t, side = _hit_round(o, d, halves[i], shapes[i] == CYLINDER)
        if t < best:
            best, body, face = t, i, side
    if body >= 0:
        for k in range(3):
            o[k] = 0.0
            d[k] = 0.0
            for m in range(3):
                o[k] += rotations[body, m, k] * (origin[m] - centers[body, m])
                d[k] += rotations[body, m, k] * direction[m]
    return best, body, face


@kernel
def _ray(R, K, lens, x, y, direction):
    """World direction through a pixel; R is world from camera."""
    u, v, w = (x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], 1.0
    if lens == EQUIRECTANGULAR:
        longitude, latitude = u, v
        u, v = math.sin(longitude) * math.cos(latitude), math.sin(latitude)
        w = math.cos(longitude) * math.cos(latitude)
    elif lens == FISHEYE:
        angle = math.sqrt(u * u + v * v)
        w = math.cos(angle)
        if angle > 0.0:
            u, v = u * math.sin(angle) / angle, v * math.sin(angle) / angle
    for k in range(3):
        direction[k] = R[k, 0] * u + R[k, 1] * v + R[k, 2] * w


@parallel_kernel
def trace_depth(center, R, K, lens, shapes, centers, rotations, halves, surfaces, depth, surface):
    """Exact depth and surface id through every pixel centre, into `depth` and `surface` (H, W);
    0 and -1 where nothing is hit."""
    height, width = depth.shape
    for row in prange(height):
        o, d, direction = np.empty(3), np.empty(3), np.empty(3)
        for column in range(width):
            _ray(R, K, lens, column + 0.5, row + 0.5, direction)
            t, body, face = _nearest(center, direction, shapes, centers, rotations, halves, o, d)
            depth[row, column] = t if body >= 0 else 0.0
            surface[row, column] = surfaces[body, face] if body >= 0 else -1


@parallel_kernel
def trace_color(
    center,
    R,
    K,
    lens,
    shapes,
    centers,
    rotations,
    halves,
    finishes,
    materials,
    light,
    samples,
    image,
):
    """Picture (H, W, 3) with `samples` x `samples` rays a pixel: diffuse light from one lamp at
    `light` over ambient light, mirrors followed once."""
    height, width = image.shape[:2]
    for row in prange(height):
        o, d, p, n = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
        direction, start, color = np.empty(3), np.empty(3), np.empty(3)
        for column in range(width):
            red, green, blue = 0.0, 0.0, 0.0
            for sample in range(samples * samples):
                x = column + (sample % samples + 0.5) / samples
                y = row + (sample // samples + 0.5) / samples
                _ray(R, K, lens, x, y, direction)
                start[:] = center
                travelled, strength = 0.0, 1.0
                for _bounce in range(2):
                    t, body, face = _nearest(
                        start, direction, shapes, centers, rotations, halves, o, d
                    )
                    if body < 0:
                        break
                    for k in range(3):
                        p[k] = o[k] + t * d[k]
                        n[k] = 0.0
                    if shapes[body] == BOX or face >= 2:
                        n[face // 2] = 1.0 if face % 2 else -1.0
                    else:
                        for k in range(3):
                            n[k] = p[k] / halves[body, 0]
                        if shapes[body] == CYLINDER:
                            n[1] = 0.0
                    cosine = -(n[0] * d[0] + n[1] * d[1] + n[2] * d[2])
                    if cosine < 0.0:
                        cosine = -cosine
                        n *= -1.0
                    length = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
                    travelled += t
                    slant = max(cosine / length, 0.15)
                    footprint = travelled / (K[0, 0] * samples * slant)
                    material = materials[finishes[body, face]]
                    _albedo(material, p[0], p[1], p[2], footprint, color)
                    for k in range(3):
                        start[k] += t * direction[k]
                    facing, distance2 = 0.0, 0.0
                    for k in range(3):
                        world_n = 0.0
                        for m in range(3):
                            world_n += rotations[body, k, m] * n[m]
                        facing += world_n * (light[k] - start[k])
                        distance2 += (light[k] - start[k]) ** 2
                    shade = 0.62 + 0.38 * max(facing, 0.0) / math.sqrt(distance2)
                    reflectance = material[REFLECTANCE]
                    own = strength * (1.0 - reflectance) * shade
                    red += own * color[0]
                    green += own * color[1]
                    blue += own * color[2]
                    if reflectance == 0.0:
                        break
                    strength *= reflectance
                    for k in range(3):
                        d[k] += 2.0 * cosine * n[k]
                    for k in range(3):
                        direction[k] = 0.0
                        for m in range(3):
                            direction[k] += rotations[body, k, m] * d[m]
                        start[k] += 1e-4 * direction[k]
            count = samples * samples
            image[row, column, 0] = red / count
            image[row, column, 1] = green / count
            image[row, column, 2] = blue / count
