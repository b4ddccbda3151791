"""Hashed features of short texts: their words.

No vocabulary is kept: a feature is the bucket that the hash of a word falls into (feature hashing: Weinberger et al.,
ICML 2009), so any language, spelling and nonsense has features, in memory that does not grow with the texts. Hashes are
polynomials modulo 2^64 (Karp & Rabin 1987) over arrays of letters: equal texts have equal features on every machine.
Pairs of words, and n-grams of letters, were tried and rank no better: docs/nights.md has the figures.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

BUCKET_BITS = 18
BUCKETS = 1 << BUCKET_BITS
_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xFF51AFD7ED558CCD)
"""Odd numbers with many bits set, so that neighbouring texts fall into unrelated buckets."""


def count_features(texts: Sequence[str]) -> sp.csr_matrix:
    """How often each text has the words of each bucket: float32 [texts, BUCKETS].

    Case, punctuation and Unicode's forms of one letter do not count.
    """
    words = [_WORD.findall(unicodedata.normalize("NFKC", text).casefold()) for text in texts]
    row = np.repeat(np.arange(len(words)), [len(own) for own in words])
    hashes = _hash_words([word for own in words for word in own])
    buckets = ((hashes * _MIX) >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    return sp.csr_matrix((np.ones(len(buckets), np.float32), (row, buckets)), (len(words), BUCKETS))


def _hash_words(words: list[str]) -> np.ndarray:
    """A hash of each word, none of which is empty: uint64 [words]."""
    if not words:
        return np.zeros(0, np.uint64)
    letters = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.array([len(word) for word in words], np.int64)
    starts = np.cumsum(lengths) - lengths
    within = np.arange(len(letters)) - np.repeat(starts, lengths)
    powers = np.cumprod(np.full(int(lengths.max()), _BASE, np.uint64))
    hashes: np.ndarray = np.add.reduceat(letters * powers[within], starts)
    return hashes
