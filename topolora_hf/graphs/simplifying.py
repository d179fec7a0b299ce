"""The network of paths, simplified: spurs are pruned, junctions within a width of each other are one."""

from collections import defaultdict

import numpy as np

from .tracing import Paths

_BESIDE = 8  # points from a node within which its surroundings are


def simplify(paths: Paths, prune: bool = True) -> Paths:
    """Prune spurs, join the paths at nodes where only two meet, and make one node of junctions whose discs overlap.

    The disc of a junction is the largest around it inside the mask, enlarged by a fifth and 1.75 pixels: the skeleton
    of two bars that cross at 45 degrees has two junctions, so far apart. A spur ends freely and is shorter than the
    local width, twice the largest radius at its junction. No loop is lost. The third column of the nodes is how far a
    node reaches: its disc, and the way to the junctions that it is made of.
    """
    network = _Network(paths)
    network.dissolve(list(network.touching))
    if prune:
        network.prune()
    network.contract()
    return network.paths()


class _Network:
    """Segments by number: two nodes, a length, and the pieces of it, (path, is reversed) each."""

    def __init__(self, paths: Paths):
        self.source = paths
        steps = np.hypot(*np.diff(paths.points[:, :2], axis=0).T) if len(paths.ends) else np.zeros(0)
        along = np.append(0, steps.cumsum())
        lengths = along[paths.first[1:] - 1] - along[paths.first[:-1]]
        ends = paths.ends.tolist()
        self.segments = {
            number: (a, b, length, [(number, False)])
            for number, ((a, b), length) in enumerate(zip(ends, lengths.tolist(), strict=True))
        }
        self.touching = defaultdict(list)  # the segments of each node; a loop twice
        for number, (a, b, *_) in self.segments.items():
            self.touching[a].append(number)
            self.touching[b].append(number)
        self.centres, self.radii = paths.nodes[:, :2].copy(), paths.nodes[:, 2].tolist()
        self.members, self.reach = defaultdict(lambda: 1), self.radii.copy()
        self.beside = _radii_beside_ends(paths)

    def prune(self) -> None:
        """Remove spurs until there are none. Of a star of spurs alone, the two longest stay."""
        waiting = list(self.touching)
        while waiting:
            changed = set()
            for node in waiting:
                here = self.touching.get(node, ())
                if len(here) < 3:
                    continue
                width = 2 * max(self.radii[node], *(self._radius_beside(number, node) for number in here))
                spurs = [(self.segments[number][2], number) for number in here if self._ends_freely(number, node)]
                spurs = sorted(spur for spur in spurs if spur[0] < width)
                for _, number in spurs[:-2] if len(spurs) == len(here) else spurs:
                    changed |= set(self._remove(number))
            waiting = self.dissolve(changed)

    def _ends_freely(self, number: int, node: int) -> bool:
        a, b, *_ = self.segments[number]
        return a != b and len(self.touching[b if a == node else a]) == 1

    def _radius_beside(self, number: int, node: int) -> float:
        a, _, _, pieces = self.segments[number]
        (path, backward), turned = (pieces[0], False) if a == node else (pieces[-1], True)
        return self.beside[path][backward != turned]

    def _remove(self, number: int) -> tuple[int, int]:
        a, b, *_ = self.segments.pop(number)
        for node in (a, b):
            self.touching[node].remove(number)
        for node in (a, b):
            if not self.touching[node]:
                del self.touching[node]
        return a, b

    def dissolve(self, nodes) -> list[int]:
        """Join the two segments that meet at any of these nodes, if there are but two. Return the nodes at hand."""
        beside = set()
        for node in nodes:
            here = self.touching.get(node, ())
            if len(here) != 2 or here[0] == here[1]:
                beside |= {end for number in here for end in self.segments[number][:2]}
                continue
            (a, b, first, head), (c, d, second, tail) = (self.segments[number] for number in here)
            if a == node:
                a, head = b, _turned(head)
            if d == node:
                d, tail = c, _turned(tail)
            kept, gone = here
            self.segments[kept] = (a, d, first + second, head + tail)
            del self.segments[gone], self.touching[node]
            self.touching[d][self.touching[d].index(gone)] = kept
            beside |= {a, d}
        return [node for node in beside if node in self.touching]

    def contract(self) -> None:
        """Make one node of two junctions with overlapping discs, the nearest first."""
        nodes = self.source.nodes
        short = sorted((length, number) for number, (a, b, length, _) in self.segments.items() if a != b)
        moved = {}

        def now(node: int) -> int:
            while node in moved:
                node = moved[node]
            return node

        for length, number in short:
            old = self.segments[number][:2]
            a, b = map(now, old)
            if a == b or min(len(self.touching[a]), len(self.touching[b])) < 3:
                continue
            way = [float(np.hypot(*(nodes[node, :2] - self.centres[to]))) for node, to in zip(old, (a, b), strict=True)]
            if length + sum(way) >= 1.2 * (self.radii[a] + self.radii[b]) + 3.5:
                continue
            del self.segments[number]
            for node in (a, b):
                self.touching[node].remove(number)
            share = self.members[a] / (self.members[a] + self.members[b])
            self.centres[a] = share * self.centres[a] + (1 - share) * self.centres[b]
            self.members[a] += self.members[b]
            self.radii[a] = max(self.radii[a], self.radii[b])
            self.reach[a] = max(self.reach[a], self.reach[b]) + (length + sum(way)) / 2
            self.touching[a] += self.touching.pop(b)
            moved[b] = a
        self.segments = {n: (now(a), now(b), *rest) for n, (a, b, *rest) in self.segments.items()}

    def paths(self) -> Paths:
        """The network as paths. A node that was moved is linked to its paths' old ends."""
        source, parts, sizes, ends = self.source, [], [], []
        alone = np.setdiff1d(np.arange(len(source.nodes)), source.ends)
        kept = np.concatenate([np.array(sorted(self.touching), int), alone])
        number = np.zeros(len(source.nodes), int)
        number[kept] = np.arange(len(kept))
        nodes = np.column_stack([self.centres, self.reach])
        for a, b, _, pieces in self.segments.values():
            run = [nodes[a : a + 1]]
            for path, backward in pieces:
                points = source.points[source.first[path] : source.first[path + 1]]
                run.append(points[::-1] if backward else points)
            run.append(nodes[b : b + 1])
            parts += run
            sizes.append(sum(map(len, run)))
            ends.append((number[a], number[b]))
        points = np.concatenate(parts) if parts else np.zeros((0, 3))
        first = np.concatenate([[0], np.cumsum(sizes, dtype=int)])
        paths = Paths(nodes[kept], points, first, np.array(ends, int).reshape(-1, 2))
        moves = np.append(True, (np.diff(points[:, :2], axis=0) != 0).any(axis=1))[: len(points)]
        moves[first[:-1]] = True
        return paths.only(moves)


def _radii_beside_ends(paths: Paths) -> list[list[float]]:
    """The largest radius on the first points of each path, and on its last."""
    if not len(paths.ends):
        return []
    place = np.arange(len(paths.points))
    from_start = place - np.repeat(paths.first[:-1], paths.sizes)
    from_end = np.repeat(paths.first[1:] - 1, paths.sizes) - place
    near = [np.where(way < _BESIDE, paths.points[:, 2], 0) for way in (from_start, from_end)]
    return np.stack([np.maximum.reduceat(radii, paths.first[:-1]) for radii in near], axis=1).tolist()


def _turned(pieces: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
    return [(path, not backward) for path, backward in reversed(pieces)]
