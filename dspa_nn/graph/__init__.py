# pyright: basic
"""The part that travels: plain torch code that a server without dspa_nn can rebuild from source."""
