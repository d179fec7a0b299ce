"""A page to try adapters on images of one's own: `recipes/demo.py`."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "page": ["build_page", "launch_options"],
        "session": ["Look"],
        "shelf": ["AdapterShelf"],
    },
)
