"""Encoders written out event by event, head by head and pair by pair, from the formulas of the papers.

They share the parameters of the modules under test and nothing of their code. Shape letters: L events of one sequence,
D width, H heads, A and V widths of a query and of a value in one head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from moerec.nn.encoders import SequenceEncoder


@torch.no_grad()
def literal_encoder(encoder: SequenceEncoder, events: Tensor, times: list[int] | None) -> Tensor:
    """What an encoder in evaluation mode gives for one sequence, [L, D]."""
    length = len(events)
    rows = []
    for place in range(length):
        row = events[place]
        if encoder.positions is not None:
            row = row + encoder.positions[length - 1 - place]
        rows.append(row)
    blocks = {"TransformerBlock": _transformer, "LiGRBlock": _ligr, "HSTUBlock": _hstu}
    for block in encoder.blocks:
        rows = blocks[type(block).__name__](encoder, block, rows, times)
    return torch.stack([_norm(encoder.final_norm, row) for row in rows])


def _transformer(encoder, block, rows, times):
    attended = _attention(encoder, block.attention, [_norm(block.attention_norm, row) for row in rows], times)
    out = []
    for row, mixed in zip(rows, attended, strict=True):
        row = row + mixed
        first, _, second = block.feed_forward
        hidden = _linear(first, _norm(block.feed_forward_norm, row))
        gelu = torch.stack([value * 0.5 * (1 + torch.erf(value / math.sqrt(2))) for value in hidden])
        out.append(row + _linear(second, gelu))
    return out


def _ligr(encoder, block, rows, times):
    attended = _attention(encoder, block.attention, [_norm(block.attention_norm, row) for row in rows], times)
    out = []
    for row, mixed in zip(rows, attended, strict=True):
        row = row + _sigmoid(block.attention_gate.weight @ row) * mixed
        both = _linear(block.feed_forward.hidden, _norm(block.feed_forward_norm, row))
        left, right = both[: len(both) // 2], both[len(both) // 2 :]
        changed = _linear(block.feed_forward.out, _silu(left) * right)
        out.append(row + _sigmoid(block.feed_forward_gate.weight @ row) * changed)
    return out


def _hstu(encoder, block, rows, times):
    heads, value_width, query_width = block.heads, block.gate_width // block.heads, block.query_width // block.heads
    made = [_silu(block.gate_query_value_key.weight @ _norm(block.norm, row)) for row in rows]
    sizes = (heads * value_width, heads * query_width, heads * value_width, heads * query_width)
    gates, queries, values, keys = zip(*[torch.split(row, sizes) for row in made], strict=True)
    out = []
    for now, row in enumerate(rows):
        mixed = torch.zeros(heads * value_width)
        for head in range(heads):
            asks, holds = _part(head, query_width), _part(head, value_width)
            logits = []
            for then in range(now + 1):
                query, key = _turned(encoder, queries[now][asks], now), _turned(encoder, keys[then][asks], then)
                logit = float(query @ key)
                if not block.is_pointwise:
                    logit /= math.sqrt(query_width)
                logits.append(logit + _bias(block.bias, head, now, then, times))
            if block.is_pointwise:
                weights = [float(_silu(torch.tensor(logit))) / encoder.options.max_length for logit in logits]
            else:
                weights = _softmax(logits)
            for then, weight in enumerate(weights):
                mixed[holds] += weight * values[then][holds]
        out.append(row + _linear(block.out, _norm(block.mixed_norm, mixed) * gates[now]))
    return out


def _attention(encoder, module, rows, times):
    width = len(rows[0])
    size = width // module.heads
    queries = [_linear(module.query, row) for row in rows]
    both = [_linear(module.key_value, row) for row in rows]
    out = []
    for now in range(len(rows)):
        mixed = torch.zeros(width)
        for head in range(module.heads):
            part = _part(head, size)
            query = _turned(encoder, queries[now][part], now)
            logits = []
            for then in range(now + 1):
                key = _turned(encoder, both[then][:width][part], then)
                logits.append(float(query @ key) / math.sqrt(size) + _bias(module.bias, head, now, then, times))
            for then, weight in enumerate(_softmax(logits)):
                mixed[part] += weight * both[then][width:][part]
        out.append(_linear(module.out, mixed))
    return out


def _turned(encoder, vector, place):
    """Rotary positions: values a and a + A / 2 are a point that turns by place * 10000^(-2 a / A)."""
    if encoder.options.positions != "rope":
        return vector
    half = len(vector) // 2
    out = vector.clone()
    for a in range(half):
        angle = place * 10_000 ** (-2 * a / len(vector))
        out[a] = vector[a] * math.cos(angle) - vector[a + half] * math.sin(angle)
        out[a + half] = vector[a] * math.sin(angle) + vector[a + half] * math.cos(angle)
    return out


def _bias(module, head, now, then, times):
    total = 0.0
    if module is not None and module.by_distance is not None:
        total += float(module.by_distance[now - then, head])
    if module is not None and module.by_time is not None:
        seconds = (times[now] - times[then]) / 1000
        bucket = 0
        while bucket < 31 and seconds >= 2 ** (bucket + 1) - 1:
            bucket += 1
        total += float(module.by_time[bucket, head])
    return total


def _norm(module, row):
    if isinstance(module, nn.LayerNorm):
        centred = row - row.mean()
        return centred / math.sqrt(float((centred**2).mean()) + module.eps) * module.weight + module.bias
    return row / math.sqrt(float((row**2).mean()) + module.eps) * module.weight


def _linear(module, row):
    return module.weight @ row + module.bias


def _part(head, size):
    return slice(head * size, (head + 1) * size)


def _softmax(logits):
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    return [value / sum(exponentials) for value in exponentials]


def _sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def _silu(x):
    return x * _sigmoid(x)
