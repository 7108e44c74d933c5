"""The most recent items of a user before a moment, for many moments at once.

Shape letters: E events, N examples, R different histories, L places of a history.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moerec.batches.examples import Gathered
from moerec.dataset.schema import PADDING
from moerec.features.prefixes import Timelines

Ints = NDArray[np.int64]


def recent_codes(
    event_users: NDArray[np.integer],
    event_times: Ints,
    event_codes: NDArray[np.int32],
    users: Ints,
    times: Ints,
    length: int,
) -> Gathered:
    """The codes of the last events of each user with a strictly earlier time; equal histories are stored once.

    Args:
        event_users: [E] ascending.
        event_times: [E] ascending within a user.
        event_codes: [E] what stands in a history for each event.
        users: [N] users of the examples; one without any event is allowed.
        times: [N] times of the examples.
        length: L.

    Returns:
        [R, L] codes, oldest first, PADDING on the left; and the row of each example.
    """
    if len(event_users) == 0:
        return Gathered(np.full((1, length), PADDING, np.int32), np.zeros(len(users), np.int64))
    known, begins = np.unique(event_users, return_index=True)
    timelines = Timelines.of(event_times, np.append(begins, len(event_users)))
    groups = np.minimum(np.searchsorted(known, users), len(known) - 1)  # [N]
    starts, stops = begins[groups], timelines.before(groups, times)  # [N]
    # A history is known by the place behind its last event; all empty ones are the same.
    ends = np.where((known[groups] == users) & (stops > starts), stops, -1)  # [N]
    distinct, first, rows = np.unique(ends, return_index=True, return_inverse=True)  # [R], [R], [N]
    places = distinct[:, None] + np.arange(-length, 0)  # [R, L]
    inside = places >= starts[first][:, None]  # nowhere in an empty history, whose places are negative
    codes = np.full(places.shape, PADDING, np.int32)
    codes[inside] = event_codes[places[inside]]
    return Gathered(codes, rows.reshape(-1).astype(np.int64))
