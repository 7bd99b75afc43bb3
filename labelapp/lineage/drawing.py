"""A story as a drawing: folded to what a person can take in, laid out in layers from top to bottom."""

from collections import defaultdict
from typing import NamedTuple

from django.utils.translation import gettext as _

from labelapp.lineage.graph import UP, Edge, Story
from labelapp.lineage.nodes import Node

NEAR = 7  # edges away from the anchor, as far as it is drawn at first: more than one time around the loop
WIDE = 5  # nodes of one kind at one distance; the rest of them fold
BOX, TALL, GAP, AIR, MARGIN = 192, 50, 18, 44, 8  # units of the drawing, which are pixels


class Folded(NamedTuple):
    """What is shown: nodes by key with the fold that stands for the hidden ones, and the edges between them."""

    stands_for: dict[str, str]
    folds: dict[str, list[str]]
    edges: set[Edge]


def folded(story: Story, *, whole: bool = False) -> Folded:
    """Hide what is far from the anchor, and what stands beside many of its kind; `whole` hides nothing."""
    names = {story.anchor: story.anchor}
    for side, word in ((story.before, "before"), (story.after, "after")):
        beside: dict[tuple[int, str], list[str]] = defaultdict(list)
        for node, away in side.items():
            if node in names:
                continue
            if away > NEAR and not whole:
                names[node] = f"fold:{word}"
                continue
            beside[away, node.partition(":")[0]].append(node)
        for (away, kind), nodes in beside.items():
            nodes.sort(key=newest_first)
            kept = len(nodes) if whole or len(nodes) <= WIDE + 1 else WIDE
            names |= {node: node if place < kept else f"fold:{word}:{away}:{kind}" for place, node in enumerate(nodes)}
    folds: dict[str, list[str]] = defaultdict(list)
    for node, name in names.items():
        if name != node:
            folds[name].append(node)
    edges = {Edge(names[tail], names[head]) for tail, head in story.edges if tail in names and head in names}
    return Folded(names, dict(folds), {edge for edge in edges if edge.tail != edge.head})


def newest_first(node: str) -> tuple:
    key = node.partition(":")[2]
    return (0, -int(key)) if key.isdecimal() else (1, key)


def fold_nodes(folds: dict[str, list[str]], address: str) -> dict[str, Node]:
    """A fold leads to the same page with everything open."""
    words = {"before": _("before"), "after": _("after")}
    return {
        name: Node(name, _("Folded"), _("%d more") % len(nodes), words[name.split(":")[1]], address)
        for name, nodes in folds.items()
    }


class Box(NamedTuple):
    """A node's place: the upper left corner, and whether it is the anchor."""

    node: Node
    x: float
    y: float
    is_anchor: bool

    @property
    def middle(self) -> float:
        return self.x + BOX / 2


class Drawing(NamedTuple):
    """Boxes and the curves between them, in a frame of so many pixels."""

    boxes: list[Box]
    curves: list[str]
    width: int
    height: int
    box_width: int = BOX
    box_height: int = TALL


def layers_of(nodes: set[str], edges: set[Edge]) -> dict[str, int]:
    """The layer of each node: below everything that it came from, and no lower than it must be.

    A way back, which rows that are made in time cannot give but folds can, is left out.
    """
    tails: dict[str, list[str]] = defaultdict(list)
    for edge in edges:
        tails[edge.head].append(edge.tail)
    layers: dict[str, int] = {}
    for start in sorted(nodes):
        path = [(start, iter(sorted(tails[start])))]
        open_now = {start}
        while path:
            node, rest = path[-1]
            tail = next((each for each in rest if each not in layers and each not in open_now), None)
            if node in layers or tail is None:
                layers.setdefault(node, 1 + max((layers.get(each, -1) for each in tails[node]), default=-1))
                path.pop()
                open_now.discard(node)
            else:
                path.append((tail, iter(sorted(tails[tail]))))
                open_now.add(tail)
    for node in nodes - tails.keys():  # what came from nothing stands right above the first thing made from it
        if below := [layers[edge.head] for edge in edges if edge.tail == node]:
            layers[node] = min(below) - 1
    return layers


def draw(shown: Folded, nodes: dict[str, Node], anchor: str) -> Drawing:
    """Layers from top to bottom; in a layer, each node near what it came from. nodes: those that are shown."""
    layers = layers_of(set(nodes), shown.edges)
    rows: dict[int, list[str]] = defaultdict(list)
    for node in nodes:
        rows[layers[node]].append(node)
    widest = max(map(len, rows.values()))
    width = 2 * MARGIN + widest * BOX + (widest - 1) * GAP
    boxes: dict[str, Box] = {}
    for row in sorted(rows):
        ordered = sorted(rows[row], key=lambda node: (middle_of_tails(node, shown.edges, boxes, width), node))
        taken = len(ordered) * BOX + (len(ordered) - 1) * GAP
        for place, node in enumerate(ordered):
            x = (width - taken) / 2 + place * (BOX + GAP)
            boxes[node] = Box(nodes[node], x, MARGIN + row * (TALL + AIR), node == anchor)
    height = 2 * MARGIN + (max(rows) + 1) * TALL + max(rows) * AIR
    curves = [curve(boxes[edge.tail], boxes[edge.head]) for edge in sorted(shown.edges) if {*edge} <= boxes.keys()]
    return Drawing(list(boxes.values()), curves, round(width), round(height))


def middle_of_tails(node: str, edges: set[Edge], boxes: dict[str, Box], width: float) -> float:
    middles = [boxes[edge.tail].middle for edge in edges if edge.head == node and edge.tail in boxes]
    return sum(middles) / len(middles) if middles else width / 2


def curve(tail: Box, head: Box) -> str:
    """A path from the lower edge of one box to the upper edge of the other."""
    top, bottom = tail.y + TALL, head.y
    half = (top + bottom) / 2
    return f"M{tail.middle:g} {top:g}C{tail.middle:g} {half:g} {head.middle:g} {half:g} {head.middle:g} {bottom:g}"


class Item(NamedTuple):
    """A node in the nested list that says the same as the drawing.

    told: it stands elsewhere in the list already, and is opened there. opens: a list follows in it; otherwise `closes`
    counts the lists that end after it.
    """

    node: Node
    told: bool
    opens: bool
    closes: range


def items_of(start: str, edges: set[Edge], nodes: dict[str, Node], direction: str) -> list[Item]:
    """The nested list of one side of the start: what leads up to it, or what was made from it; each opened once."""
    beyond: dict[str, list[str]] = defaultdict(list)
    for edge in sorted(edges, reverse=True):
        here, there = (edge.head, edge.tail) if direction == UP else (edge.tail, edge.head)
        if there in nodes:
            beyond[here].append(there)
    rows: list[tuple[str, int, bool]] = []
    told, waiting = {start}, [(other, 0) for other in beyond[start]]
    while waiting:
        node, level = waiting.pop()
        rows.append((node, level, node in told))
        if node not in told:
            told.add(node)
            waiting += [(other, level + 1) for other in beyond[node]]
    if not rows:
        return []
    levels = [level for _node, level, _told in rows[1:]] + [0]
    return [
        Item(nodes[node], again, after > level, range(max(0, level - after)))
        for (node, level, again), after in zip(rows, levels, strict=True)
    ]
