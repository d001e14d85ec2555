"""Methods that turn trajectories into noisy views: one file per `views.kind`, named as its section is.

A file defines, for each source that its section names in `sources`,

    of_trajectory(trajectory, advantage, config, is_full) -> Views
    of_demonstrations(pairs, config, block, seeds, canvas_tokens) -> list[Views]
"""
