"""The cost of a run before it starts: memory per device, seconds per step, and what would make it fit.

Everything is computed from a config, the shape of a model and a table of devices; no weight is read.

    published   shapes of published models, which need no checkpoint
    sizes       parameters of a model by place, and the activations that its backward pass keeps
    job         a config as the numbers that cost depends on
    devices     data sheets, assumed efficiencies, calibration of this machine's CPU
    memory      bytes of a device in the rollout and in the update
    seconds     seconds of rollout, sync of weights and update
    remedies    the plan again, with one setting changed
    report      the tables of `unmask plan`
"""
