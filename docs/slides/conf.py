"""The settings of the slides; tools/build_site.py runs Sphinx with them. reveal.js comes with sphinx-revealjs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

project = "DPNet Lite"
extensions = ["myst_parser", "sphinx_revealjs", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_inline"]
html_show_copyright = html_copy_source = False
revealjs_style_theme = "white"
revealjs_static_path = ["static"]
revealjs_css_files = ["slides.css"]
revealjs_use_section_ids = True
revealjs_script_conf = {
    "width": 1280,
    "height": 720,
    "margin": 0.02,
    "hash": True,
    "slideNumber": "c/t",
    "transition": "none",
    "center": False,
}
revealjs_script_plugins = [{"name": "RevealNotes", "src": "revealjs/plugin/notes/notes.js"}]

_mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
assert _mathjax is not None and _mathjax.origin is not None, "install the extra `site`"
revealjs_static_path.append(str(Path(_mathjax.origin).parent / "static" / "mathjax" / "tex-svg.js"))
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}
