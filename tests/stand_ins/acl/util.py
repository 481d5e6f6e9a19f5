"""Stands in for ``acl.util``, of which edgepose needs nothing."""
