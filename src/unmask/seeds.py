"""Seeds derived from the purpose of a draw, never from its time or place.

A request's seed comes from (run seed, step, prompt, sample), so a run does not depend on
batch, rank or order. The hash is the finaliser of SplitMix64 (Steele, Lea, Flood:
"Fast Splittable Pseudorandom Number Generators", 2014); `diffusion/keyed_random.py` computes the same
function in tensors.
"""

GOLDEN_GAMMA = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)

_MASK = 2**64 - 1


def mix(state: int) -> int:
    """Return the SplitMix64 finaliser of a 64-bit state."""
    state ^= state >> SHIFTS[0]
    state = state * MULTIPLIERS[0] & _MASK
    state ^= state >> SHIFTS[1]
    state = state * MULTIPLIERS[1] & _MASK
    return state ^ state >> SHIFTS[2]


def derive_seed(*parts: int) -> int:
    """Return a seed in `[0, 2**63)` that depends on every part and on their order."""
    state = 0
    for part in parts:
        state = mix((state + (part + 1) * GOLDEN_GAMMA) & _MASK)
    return state >> 1
