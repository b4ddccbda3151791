"""Checks the structure of an Annoy index before Annoy follows its pointers.

Annoy maps its file and trusts every number in it: a child beyond the end, a cycle or a negative count crashes the
process or makes a query run for ever. The layout is that of `annoylib.h` 1.17 for the metric `angular`; a node has
3 + d words of 32 bits, d dimensions, and K = d + 2:

| node | word 0: descendants | words 1, 2 | words 3 … d + 2 |
|---|---|---|---|
| item i, at place i | 1 | norm, unused | its vector |
| split | more than K | its two children | the normal of the plane |
| bucket | 1 to K | with those that follow: the items in it, as many as word 0 says | |

Children are written before their parents. The roots are copied to the end of the file; going backwards from the last
node, `load` takes as roots all nodes with as many descendants as that one, and takes this number as that of the items.

So if the children of every split lie before it and their descendants add up to its own, and every bucket and item is
in range, then a query meets each item at most once per root, and ends.
"""

import mmap

import numpy as np

from server.release_files import Progress, no_progress

_HEAD = 3
"""Words of a node before its vector."""
MOST_DIMENSIONS = 65_536
"""Annoy puts one node on the stack per query, so nodes must stay small."""
_BLOCK_BYTES = 8 << 20


def structure_fault(data: mmap.mmap | bytes, items: np.ndarray, progress: Progress = no_progress) -> str | None:
    """The fault of an index over `items` (float32 [m, d]); None if Annoy may load and search it.

    Takes 4 bytes of memory per node, and some blocks of 8 MB.
    """
    count, dimensions = items.shape
    if dimensions > MOST_DIMENSIONS:
        return f"has {dimensions} dimensions; {MOST_DIMENSIONS} is the most that can be searched"
    words = _HEAD + dimensions
    if len(data) % (4 * words) or not len(data):
        return f"does not consist of nodes of {dimensions} dimensions"
    nodes = np.frombuffer(data, np.int32).reshape(-1, words)
    if len(nodes) > np.iinfo(np.int32).max:
        return f"has {len(nodes)} nodes, more than Annoy can number"
    descendants = nodes[:, 0].copy()
    if descendants[-1] != count:
        return f"holds {descendants[-1]} movies, items.npy {count}"
    if len(nodes) <= count:
        return "has no root"
    step = max(1, _BLOCK_BYTES // (4 * words))
    for first in range(0, count, step):
        progress()
        if fault := _item_fault(nodes[first : min(first + step, count)], items[first : first + step], first):
            return fault
    for first in range(count, len(nodes), step):
        progress()
        if fault := _node_fault(nodes[first : first + step], descendants, first, count):
            return fault
    return None


def _item_fault(nodes: np.ndarray, items: np.ndarray, first: int) -> str | None:
    """The fault of the nodes of the items from `first` on: `nodes` int32 [b, 3 + d], `items` float32 [b, d]."""
    differ: np.ndarray = nodes[:, _HEAD:].view(np.float32) != items
    wrong = (nodes[:, 0] != 1) | differ.any(axis=1)
    return f"and items.npy do not hold the same of movie {first + int(wrong.argmax())}" if wrong.any() else None


def _node_fault(nodes: np.ndarray, descendants: np.ndarray, first: int, count: int) -> str | None:
    """The fault of splits and buckets: `nodes` int32 [b, 3 + d] from `first` on, `descendants` int32 [n]."""
    sizes, most = nodes[:, 0].astype(np.int64), nodes.shape[1] - 1
    wrong: np.ndarray = (sizes < 1) | (sizes > count)
    buckets, splits = np.flatnonzero(~wrong & (sizes <= most)), np.flatnonzero(~wrong & (sizes > most))
    members = nodes[buckets, 1:]
    used = np.arange(most) < sizes[buckets, None]
    wrong[buckets] = (used & ((members < 0) | (members >= count))).any(axis=1)
    children = nodes[splits, 1:_HEAD].astype(np.int64)
    outside: np.ndarray = (children < 0) | (children >= (first + splits)[:, None])
    held = descendants[np.where(outside, 0, children)].sum(axis=1, dtype=np.int64)
    wrong[splits] = outside.any(axis=1) | (held != sizes[splits])
    return f"is not a forest over its items: node {first + int(wrong.argmax())}" if wrong.any() else None
