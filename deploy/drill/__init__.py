"""Three routers behind a balancer, under load: one is killed, one drained, one reloaded; what callers had of it.

`python -m deploy.drill` from the checkout, with the packages of `.[test]`: processes on this machine, a real Redis, a
real PostgreSQL, a real HAProxy with the very file that compose.yaml mounts. It proves nothing of a network.
"""
