"""Stands in for ixRT's and CoreX's Python modules.

There are no binding stubs of ixRT, so its interface (``../../interfaces/ixrt_documented.json``) is what its vendor's
own public programs call, and nothing more.  How objects behave is shared with the stand-in of TensorRT, whose interface
ixRT has taken over; where ixRT is known to differ, it does so here.
"""
