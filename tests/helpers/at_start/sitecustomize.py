"""Python imports this as it starts, where this folder is on its path: jobs stop where rules say."""

import os

if os.environ.get("HOLD_AT"):
    from tests.helpers.instants import hold_where_asked

    hold_where_asked()
