"""Methods that turn trajectories into noisy views: one file per `views.kind`, named as its section is.

A file defines, for each source that its section names in `sources`,

    of_trajectory(trajectory, advantage, config, is_full) -> Views
    of_demonstrations(demonstrations, config, canvas, seeds) -> list[Views]

A demonstration is `(prompt_ids, response_ids, step_map)`, the last None where none was recorded; `seeds` has
the key of its noise. `canvas` states the blocks and the size of what is laid out (`diffusion/views.py`).
"""
