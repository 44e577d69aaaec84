"""How many replicas a service needs: they follow predicted demand and the objective.

The chain, each link a module with one idea and none with a clock:

- ``speed``: how long a request keeps a replica busy, learnt from what gateways measure.
- ``queueing``: how many replicas answer a rate of requests so that few wait too long.
- ``demand``: the rate to expect one cold start ahead, and how wrong such forecasts have been.
- ``coldstart``: how long a replica takes to start, per class of node and model.
- ``replicas``: the decision, ``step(policy, state, observed, now) -> (state, Target)``.
- ``retry``: what a gateway may honestly promise in ``Retry-After``.

A shell calls ``replicas.begin(policy, now)`` once, then ``replicas.step`` with every report (each
``Observed`` sums all gateways over some seconds) and carries the state; equal states and reports
give equal targets, so that a decision can be replayed. Everything is plain floats and tuples:
no numpy, so that gateways may import ``retry``.
"""
