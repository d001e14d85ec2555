"""The losses: one file per `loss.kind`, named as its section is.

Each defines `loss(targets: ScoredTargets, config) -> LossOutput`.
"""
