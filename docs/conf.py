"""Sphinx's settings: ``sphinx-build -W -b html docs site`` builds the pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from ase_srdft import __version__

project = "ase_srdft"
author = "the ase_srdft developers"
release = version = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_parser",
    "generated_reference",
    "model_pages",
]
exclude_patterns = ["extensions", "figures"]

myst_heading_anchors = 3

# docstrings put code between single backticks
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"ase_srdft {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
