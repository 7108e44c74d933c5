"""Random numbers by counting: the published generator, and nothing but the keys decides."""

import numpy as np

from moerec.features.counter_random import keys_of, share, stream


def test_the_stream_is_splitmix64():
    # The first outputs of the published generator from the state 0.
    outputs = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [int(stream(np.zeros(1, np.uint64), number)[0]) for number in range(3)] == outputs


def test_shares_are_even_from_0_to_1_also_for_neighbouring_keys():
    shares = share(stream(keys_of(np.array([3]), np.arange(20_000)), 0))
    assert shares.min() >= 0
    assert shares.max() < 1
    counts = np.histogram(shares, bins=20, range=(0, 1))[0]
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_a_key_hangs_on_every_word_and_its_place():
    words = np.array([[1, 2, 3], [1, 2, 4], [2, 1, 3], [1, 3, 2], [-1, 2, 3], [1, 2, 2**62]])
    keys = keys_of(*words.T)
    assert len(set(keys.tolist())) == len(words)
    assert keys_of(*words[3:4].T) == keys[3]
