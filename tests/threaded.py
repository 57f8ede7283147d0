"""The standard library's HTTP server, for tests that play an upstream with it."""

from http.server import ThreadingHTTPServer


class Threaded(ThreadingHTTPServer):
    """With room for all who come at once. The library's own queue holds five: the system drops the others, who try
    again a second later or are cut off.
    """

    request_queue_size = 128
