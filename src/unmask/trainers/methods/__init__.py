"""How rewards become advantages: one file per section of `[advantage]`, named as it is.

Each defines `build(config, policy, saved, world) -> RLUpdate`.
"""
