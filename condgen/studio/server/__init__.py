"""The server of the studio: command line, visitors, cache, proxies."""
