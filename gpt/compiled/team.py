"""Team: threads that share the work of one step, without waiting for one that has no core.

The leader runs the step. Work that is worth sharing it publishes as a job of so many items, and every thread, the
leader too, takes parts until none is left; then the leader waits only for those that a helper has begun. A helper
that the machine has put aside takes none; one that is put aside in the midst of a part is waited for. Beside one busy
process on two cores two threads were as fast as one, beside two of them between 0.87 and 0.45 times as fast; torch's
own pool, which hands every thread its share beforehand, was five times slower on cores that others kept busy.

TICKET holds the job's number, its number of parts and the next part in one cell, so a part is taken by one exchange,
which fails for a thread that still looks at an older job.
"""

from __future__ import annotations

from typing import Any

from gpt.compiled.atomic import CELL, add, exchange, give_way, observe, publish
from gpt.compiled.draw import draw
from gpt.compiled.kernel import SOURCES, entry, kernel
from gpt.compiled.layers import ACTIVATE, ADD, RANK, STORE, attend, multiply, quantise
from gpt.compiled.memory import integers
from gpt.compiled.panel import GROUP, WIDTH
from gpt.compiled.score import score

TICKET, FINISHED, AWAKE, CLOSED, JOB = (CELL * n for n in range(5))
CELLS = CELL * 6
QKV, ATTEND, OUT_PROJ, LINEAR1, LINEAR2, HEAD, DRAW = range(7)

_PARTS, _NUMBER = 1 << 20, 1 << 40  # in TICKET: the next part, above it the number of parts, above that the job's
_JOBS = 1 << 22  # after so many their numbers begin again
_SHARED = 100_000  # multiply-adds below which a job is done before a helper has heard of it
_ITEM = 50_000  # multiply-adds, at least, of an item
_SPINS, _IDLE = 200, 3000  # looks before a thread gives way; times that a helper gives way before it sleeps


@kernel
def perform(s, kind, layer, rows, step, first, last):
    """Items first to last of a job."""
    if kind == ATTEND:
        for item in range(first, last):
            attend(s, layer, item // s.num_heads, item % s.num_heads)
        return
    if kind == DRAW:
        for item in range(first, last):
            draw(s, item, step)
            score(s, item, step)
        return
    target, mode = s.qkv, STORE
    if kind in (OUT_PROJ, LINEAR2):
        target, mode = s.x, ADD
    elif kind == LINEAR1:
        target, mode = s.hidden, ACTIVATE
    elif kind == HEAD:
        target, mode = s.logits, RANK
    matrix, depth, width = _matrix(s, kind, layer)
    source, stride = _source(s, kind)
    multiply(s, matrix, source, stride, depth, target, width, mode, rows, first, last)


@kernel
def _matrix(s, kind, layer):
    """A product's matrix, its depth and the width of its result."""
    if kind == HEAD:
        return 4 * s.num_layers, s.embed_dim, s.logits_width
    if kind == LINEAR2:
        return 4 * layer + 3, s.feedforward_dim, s.width
    if kind == LINEAR1:
        return 4 * layer + 2, s.embed_dim, s.hidden_width
    if kind == OUT_PROJ:
        return 4 * layer + 1, s.embed_dim, s.width
    return 4 * layer, s.embed_dim, s.qkv_width


@kernel
def _source(s, kind):
    """What a product multiplies, and the numbers from one row of it to the next."""
    if kind == OUT_PROJ:
        return s.attended, s.width
    if kind == LINEAR2:
        return s.hidden, s.hidden_width
    return s.normed, s.width


@kernel
def share(s, kind, layer, rows, step):
    """Do a job, with whoever helps; it is done when this returns."""
    if kind == ATTEND:
        items, cost = rows * s.num_heads, 2 * s.head_dim * 64
    elif kind == DRAW:
        items, cost = rows, _ITEM
    else:
        _, depth, width = _matrix(s, kind, layer)
        items, cost = width // WIDTH, rows * depth * WIDTH
        if s.whole:
            cost //= GROUP
            source, stride = _source(s, kind)
            for row in range(rows):
                quantise(s, source, stride, depth, row)
    if s.helpers == 0 or items == 1 or items * cost < _SHARED:
        perform(s, kind, layer, rows, step, 0, items)
        return
    chunk = max(1, _ITEM // cost, items // (_PARTS - 1) + 1 if items >= _PARTS else 1)
    parts = (items + chunk - 1) // chunk
    job = integers(s.control, JOB, 6)
    job[0], job[1], job[2], job[3], job[4], job[5] = kind, layer, rows, step, items, chunk
    publish(s.control, FINISHED, 0)
    number = (observe(s.control, TICKET) // _NUMBER + 1) % _JOBS
    publish(s.control, TICKET, number * _NUMBER + parts * _PARTS)
    while _take(s):
        pass
    spins = 0
    while observe(s.control, FINISHED) < parts:
        spins += 1
        if spins > _SPINS:
            give_way()


@kernel
def _take(s):
    """Do one part of the job that is published; whether there was one."""
    ticket = observe(s.control, TICKET)
    part = ticket % _PARTS
    if part >= ticket % _NUMBER // _PARTS:
        return False
    if exchange(s.control, TICKET, ticket, ticket + 1):  # from here on the job stays until this part is finished
        kind, layer, rows, step, items, chunk = integers(s.control, JOB, 6)
        perform(s, kind, layer, rows, step, part * chunk, min((part + 1) * chunk, items))
        add(s.control, FINISHED, 1)
    return True


def _of_version(version: int) -> Any:
    @entry
    def help_out(state):
        """A helper's work: parts, until there has been none for about a millisecond, or the team is closed."""
        s = state[version * 0]
        add(s.control, AWAKE, 1)
        spins = idle = 0
        while idle < _IDLE and observe(s.control, CLOSED) == 0:
            if _take(s):
                spins = idle = 0
            else:
                spins += 1
                if spins > _SPINS:
                    idle += 1
                    give_way()
        add(s.control, AWAKE, -1)

    return help_out


help_out = _of_version(SOURCES)
