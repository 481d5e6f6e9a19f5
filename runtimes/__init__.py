"""Runtimes of edgepose: an engine file -> a session.  One file an engine API."""
