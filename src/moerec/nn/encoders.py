"""The sequence encoder: event vectors in, contextual vectors out, whatever its blocks.

Shape letters: B sequences, L the longest sequence, R rows of events, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from moerec.nn.attention_context import AttentionContext
from moerec.nn.encoder_options import EncoderOptions
from moerec.nn.norms import make_norm
from moerec.nn.positions import rotary_angles, time_buckets
from moerec.nn.sequence_layout import SequenceLayout

MakeBlock = Callable[[EncoderOptions, int], nn.Module]
"""Makes a block from the options and its depth, 1 for the first; it maps rows [R, D] and their context to [S, D]."""


class SequenceEncoder(nn.Module):
    """Stack of pre-norm causal blocks with positions and a final norm."""

    def __init__(self, options: EncoderOptions, make_block: MakeBlock) -> None:
        super().__init__()
        self.options = options
        self.positions: nn.Parameter | None = None
        if options.positions == "learned":
            self.positions = nn.Parameter(torch.empty(options.max_length, options.width))
            nn.init.normal_(self.positions, std=0.02)
        self.input_dropout = options.make_dropout()
        self.blocks = nn.ModuleList(make_block(options, depth) for depth in range(1, options.blocks + 1))
        self.final_norm = make_norm(options.norm, options.width)

    def forward(self, events: Tensor, layout: SequenceLayout, timestamps: Tensor | None = None) -> Tensor:
        """Contextual vector of every event.

        Args:
            events: [R, D] event vectors; padded rows hold anything finite.
            layout: where the rows stand; no sequence is longer than `max_length`.
            timestamps: [B, L] int64 milliseconds, padded on the right; read by a time bias alone.

        Returns:
            [R, D]; an event has seen the events of its sequence up to and including itself, and no padding.
        """
        context = self._context(layout, timestamps)
        x = self._with_positions(events, layout)  # [R, D]
        for block in self.blocks:
            x = self._through(block, x, context)  # [R, D]
        return self.final_norm(x)

    def last(self, events: Tensor, lengths: Tensor, timestamps: Tensor | None = None) -> Tensor:
        """Contextual vector of each sequence's last event only, [B, D]; the last block skips all other queries.

        A sequence without events gives a finite vector that means nothing.

        Args:
            events: [B, L, D] event vectors, padded on the right with anything finite.
            lengths: [B] int64.
            timestamps: as in `forward`.
        """
        layout = SequenceLayout.padded(lengths, events.shape[1])
        context = self._context(layout, timestamps)
        x = self._with_positions(events.flatten(0, 1), layout)  # [B * L, D]
        for block in self.blocks[:-1]:
            x = self._through(block, x, context)  # [B * L, D]
        newest = AttentionContext(layout, context.angles, context.buckets, last=True)
        return self.final_norm(self._through(self.blocks[-1], x, newest))  # [B, D]

    def _context(self, layout: SequenceLayout, timestamps: Tensor | None) -> AttentionContext:
        angles = buckets = None
        if self.options.positions == "rope":
            angles = rotary_angles(layout.columns, self.options.query_width)
        if self.options.time_bias:
            if timestamps is None:
                raise ValueError("time_bias reads times; hand over timestamps [B, L]")
            buckets = time_buckets(timestamps)
        return AttentionContext(layout, angles, buckets)

    def _with_positions(self, events: Tensor, layout: SequenceLayout) -> Tensor:
        if self.positions is not None:
            # Positions count back from the newest event of the window, so that the newest is always position 0.
            # Not `positions[...]`, whose gradient several threads add up in whatever order they come.
            events = events + F.embedding(layout.from_end, self.positions)  # [R, D]
        dropped: Tensor = self.input_dropout(events)
        return dropped

    def _through(self, block: nn.Module, x: Tensor, context: AttentionContext) -> Tensor:
        if not (self.options.checkpoint_activations and self.training and torch.is_grad_enabled()):
            out: Tensor = block(x, context)
        else:
            # The generator's state is kept, so dropout draws the same when the block is computed again.
            out = checkpoint(block, x, context, use_reentrant=False, preserve_rng_state=True)
        return out
